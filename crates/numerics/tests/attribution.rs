//! Step attribution on trajectories whose coefficients are known because they were planted.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on from ends it")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounding to a tensor's dtype is meant, and positions are small"
)]

use crusades_numerics::{
    Attribution, AttributionError, CompareError, DEFAULT_ADMITTED_ERROR, Dtype, Obstacle,
    SampledTensor, StepBasis, TensorBytes,
};
use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;

/// Numbers that look normally distributed, always the same ones.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.uniform() * bound as f64) as usize
    }
}

/// Values of one tensor as they are before rounding to its dtype: the initial ones and the update
/// of each step, all elements.
#[derive(Clone)]
struct Trajectory {
    dtype: Dtype,
    initial: Vec<f64>,
    updates: Vec<Vec<f64>>,
}

impl Trajectory {
    /// Updates of about `size` for an element, each like the one before it, as momentum makes
    /// them.
    fn new(dtype: Dtype, elements: usize, steps: usize, size: f64, noise: &mut Noise) -> Self {
        let initial: Vec<f64> = (0..elements).map(|_| noise.normal()).collect();
        let drift: Vec<f64> = (0..elements).map(|_| noise.normal()).collect();
        let mut momentum: Vec<f64> = drift.clone();
        let updates = (0..steps)
            .map(|_| {
                for value in &mut momentum {
                    *value = 0.8 * *value + 0.6 * noise.normal();
                }
                let both = momentum.iter().zip(&drift);
                both.map(|(momentum, drift)| size * (momentum + 0.3 * drift))
                    .collect()
            })
            .collect();
        Self {
            dtype,
            initial,
            updates,
        }
    }

    /// The initial values plus each update times its coefficient.
    fn trained(&self, coefficients: &[f64]) -> Vec<f64> {
        let mut values = self.initial.clone();
        for (update, coefficient) in self.updates.iter().zip(coefficients) {
            for (value, update) in values.iter_mut().zip(update) {
                *value += coefficient * update;
            }
        }
        values
    }

    /// Before the first step and after each.
    fn states(&self) -> Vec<Vec<f64>> {
        (0..=self.updates.len())
            .map(|done| {
                let mut coefficients = vec![0.0; self.updates.len()];
                coefficients[..done].fill(1.0);
                self.trained(&coefficients)
            })
            .collect()
    }
}

/// `values` at `positions`, rounded to `dtype`.
fn bytes_at(dtype: Dtype, values: &[f64], positions: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &position in positions {
        let value = values[position];
        match dtype {
            Dtype::F32 => bytes.extend((value as f32).to_le_bytes()),
            Dtype::BF16 => bytes.extend(bf16::from_f64(value).to_le_bytes()),
            Dtype::F16 => bytes.extend(f16::from_f64(value).to_le_bytes()),
        }
    }
    bytes
}

/// A model's trajectories, each with the positions that were sampled.
#[derive(Clone)]
struct Model {
    tensors: Vec<(Trajectory, Vec<usize>)>,
    attributed: Vec<bool>,
    admitted_error: f64,
}

impl Model {
    /// All elements of all tensors are sampled.
    fn full(trajectories: Vec<Trajectory>) -> Self {
        Self {
            attributed: vec![true; trajectories.len()],
            admitted_error: DEFAULT_ADMITTED_ERROR,
            tensors: trajectories
                .into_iter()
                .map(|trajectory| {
                    let positions = (0..trajectory.initial.len()).collect();
                    (trajectory, positions)
                })
                .collect(),
        }
    }

    /// At most `each` elements of every tensor are sampled.
    fn sampled(mut self, each: usize, noise: &mut Noise) -> Self {
        for (trajectory, positions) in &mut self.tensors {
            let elements = trajectory.initial.len();
            if elements > each {
                // One of each of `each` stretches: distinct and sorted.
                *positions = (0..each)
                    .map(|stretch| {
                        let start = stretch * elements / each;
                        start + noise.below((stretch + 1) * elements / each - start)
                    })
                    .collect();
            }
        }
        self
    }

    fn basis(&self) -> Result<StepBasis, AttributionError> {
        let states: Vec<Vec<Vec<u8>>> = self
            .tensors
            .iter()
            .map(|(trajectory, positions)| {
                let states = trajectory.states();
                let recorded = states.iter();
                recorded
                    .map(|values| bytes_at(trajectory.dtype, values, positions))
                    .collect()
            })
            .collect();
        let samples: Vec<SampledTensor<'_>> = self
            .tensors
            .iter()
            .zip(&states)
            .zip(&self.attributed)
            .map(|(((trajectory, _), states), &attributed)| SampledTensor {
                population: trajectory.initial.len() as u64,
                attributed,
                states: states
                    .iter()
                    .map(|bytes| TensorBytes {
                        dtype: trajectory.dtype,
                        bytes,
                    })
                    .collect(),
            })
            .collect();
        StepBasis::new(&samples, self.admitted_error)
    }

    /// What is found of a submission whose final values of each tensor are `values`.
    fn attribute(&self, values: &[Vec<f64>]) -> Attribution {
        self.attribute_as(values, |dtype| dtype)
    }

    fn attribute_as(&self, values: &[Vec<f64>], dtype: impl Fn(Dtype) -> Dtype) -> Attribution {
        let submission: Vec<Vec<u8>> = self
            .tensors
            .iter()
            .zip(values)
            .map(|((trajectory, positions), values)| {
                bytes_at(dtype(trajectory.dtype), values, positions)
            })
            .collect();
        let submission: Vec<TensorBytes<'_>> = self
            .tensors
            .iter()
            .zip(&submission)
            .map(|((trajectory, _), bytes)| TensorBytes {
                dtype: dtype(trajectory.dtype),
                bytes,
            })
            .collect();
        self.basis().unwrap().attribute(&submission).unwrap()
    }

    /// The final values of each tensor with the same coefficients for all, each off by noise that
    /// is `error` of the whole update.
    fn trained(&self, coefficients: &[f64], error: f64, noise: &mut Noise) -> Vec<Vec<f64>> {
        self.tensors
            .iter()
            .map(|(trajectory, _)| {
                let mut values = trajectory.trained(coefficients);
                let whole = trajectory.trained(&vec![1.0; trajectory.updates.len()]);
                let squared: f64 = whole
                    .iter()
                    .zip(&trajectory.initial)
                    .map(|(value, initial)| (value - initial).powi(2))
                    .sum();
                let each = error * (squared / whole.len().max(1) as f64).sqrt();
                for value in &mut values {
                    *value += each * noise.normal();
                }
                values
            })
            .collect()
    }
}

/// Tensors like those of a model: one large, one of middle size, a bias, one number, none.
fn model(steps: usize, dtype: Dtype, salt: u64) -> (Model, Noise) {
    let mut noise = Noise(salt);
    let trajectories = [40_000, 5_000, 300, 1, 0]
        .map(|elements| Trajectory::new(dtype, elements, steps, 1e-3, &mut noise));
    (Model::full(trajectories.into()), noise)
}

fn coefficients(attribution: &Attribution) -> &[f64] {
    attribution.coefficients.as_deref().unwrap()
}

fn obstacles(attribution: &Attribution) -> Vec<(usize, Obstacle)> {
    attribution.conditioning.obstacles().collect()
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(work)
}

fn nearly(left: f64, right: f64) -> bool {
    left == right || (left - right).abs() <= 1e-9 * left.abs().max(right.abs())
}

/// The coefficients that eliminating in the normal equations gives, element by element.
fn plain_fit(states: &[Vec<f64>], weights: &[f64], last: &[f64]) -> Vec<f64> {
    let steps = states.len() - 1;
    let update = |step: usize, element: usize| states[step + 1][element] - states[step][element];
    let mut rows: Vec<Vec<f64>> = (0..steps)
        .map(|row| {
            (0..=steps)
                .map(|column| {
                    (0..last.len())
                        .map(|element| {
                            let right = if column == steps {
                                last[element] - states[0][element]
                            } else {
                                update(column, element)
                            };
                            weights[element] * update(row, element) * right
                        })
                        .sum()
                })
                .collect()
        })
        .collect();
    for pivot in 0..steps {
        for row in (0..steps).filter(|&row| row != pivot) {
            let factor = rows[row][pivot] / rows[pivot][pivot];
            let subtracted = rows[pivot].clone();
            for (value, subtracted) in rows[row].iter_mut().zip(subtracted) {
                *value -= factor * subtracted;
            }
        }
    }
    (0..steps)
        .map(|row| rows[row][steps] / rows[row][row])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn planted_coefficients_are_recovered(
        planted in vec(prop_oneof![3 => Just(1.0), 1 => Just(0.0), 2 => -1.0_f64..2.0], 1..12),
        salt in any::<u64>(),
    ) {
        let (model, mut noise) = model(planted.len(), Dtype::F32, salt);
        let found = model.attribute(&model.trained(&planted, 0.0, &mut noise));
        for (found, planted) in coefficients(&found).iter().zip(&planted) {
            prop_assert!((found - planted).abs() < 2e-3, "{found} is not {planted}");
        }
        prop_assert!(found.residual < 1e-3, "{}", found.residual);
    }

    #[test]
    fn noise_moves_a_coefficient_as_far_as_the_conditioning_expects(
        steps in 1_usize..12,
        skipped in any::<prop::sample::Index>(),
        error in 0.005_f64..0.05,
        salt in any::<u64>(),
    ) {
        let (model, mut noise) = model(steps, Dtype::F32, salt);
        let skipped = skipped.index(steps);
        let mut planted = vec![1.0; steps];
        planted[skipped] = 0.0;
        let found = model.attribute(&model.trained(&planted, error, &mut noise));
        for (step, coefficient) in coefficients(&found).iter().enumerate() {
            let conditioning = found.conditioning.steps[step];
            let deviation = conditioning.expected_deviation * error / DEFAULT_ADMITTED_ERROR;
            prop_assert!(
                (coefficient - planted[step]).abs() < 5.0 * deviation + 2e-3,
                "step {step}: {coefficient}, {conditioning:?}"
            );
        }
        prop_assert!((found.residual / error - 1.0).abs() < 0.1, "{}", found.residual);
    }

    #[test]
    fn the_fit_is_that_of_a_plain_implementation(
        steps in 1_usize..6,
        dtype in prop::sample::select(vec![Dtype::F32, Dtype::BF16, Dtype::F16]),
        salt in any::<u64>(),
    ) {
        let mut noise = Noise(salt);
        let trajectories: Vec<Trajectory> = [900, 260, 30]
            .map(|elements| Trajectory::new(dtype, elements, steps, 0.3, &mut noise))
            .into();
        let mut model = Model::full(trajectories).sampled(250, &mut noise);
        model.admitted_error = 1e-3;
        let values = model.trained(&vec![0.7; steps], 0.02, &mut noise);
        let found = model.attribute(&values);

        let mut states = vec![Vec::new(); steps + 1];
        let mut weights = Vec::new();
        let mut last = Vec::new();
        for ((trajectory, positions), values) in model.tensors.iter().zip(&values) {
            let rounded = |value: f64| match dtype {
                Dtype::F32 => f64::from(value as f32),
                Dtype::BF16 => bf16::from_f64(value).to_f64(),
                Dtype::F16 => f16::from_f64(value).to_f64(),
            };
            let weight = trajectory.initial.len() as f64 / positions.len() as f64;
            for (all, state) in states.iter_mut().zip(trajectory.states()) {
                all.extend(positions.iter().map(|&position| rounded(state[position])));
            }
            weights.extend(positions.iter().map(|_| weight));
            last.extend(positions.iter().map(|&position| rounded(values[position])));
        }
        for (found, plain) in coefficients(&found).iter().zip(plain_fit(&states, &weights, &last)) {
            prop_assert!((found - plain).abs() < 1e-9, "{found} is not {plain}");
        }
    }

    #[test]
    fn a_sample_agrees_with_all_elements_within_its_statistical_error(
        salt in any::<u64>(),
        skipped in 0_usize..6,
    ) {
        let (full, mut noise) = model(6, Dtype::F32, salt);
        let sampled = full.clone().sampled(4_000, &mut noise);
        let mut planted = [1.0; 6];
        planted[skipped] = 0.2;
        let values = full.trained(&planted, 0.03, &mut noise);
        let all = full.attribute(&values);
        let some = sampled.attribute(&values);
        for step in 0..6 {
            let deviation = some.conditioning.steps[step].expected_deviation;
            let difference = coefficients(&all)[step] - coefficients(&some)[step];
            prop_assert!(difference.abs() < 5.0 * deviation, "step {step}: {difference}");
            let norms = [&all, &some].map(|found| found.conditioning.steps[step].update_norm);
            prop_assert!((norms[0] / norms[1] - 1.0).abs() < 0.1, "{norms:?}");
        }
        for (all, some) in [
            (all.update_error, some.update_error),
            (all.weight_error, some.weight_error),
            (all.changed_ratio, some.changed_ratio),
            (all.residual, some.residual),
        ] {
            prop_assert!((all / some - 1.0).abs() < 0.1, "{all} and {some}");
        }
    }

    #[test]
    fn the_order_of_the_tensors_changes_nothing(salt in any::<u64>(), turn in 0_usize..5) {
        let (model, mut noise) = model(4, Dtype::BF16, salt);
        let mut values = model.trained(&[1.0, 0.0, 1.0, 0.9], 0.02, &mut noise);
        let straight = model.attribute(&values);
        let mut turned = model;
        turned.tensors.rotate_left(turn);
        values.rotate_left(turn);
        let mut turned = turned.attribute(&values);
        turned.tensors.rotate_right(turn);
        prop_assert_eq!(&straight.tensors, &turned.tensors);
        for (straight, turned) in [
            (straight.residual, turned.residual),
            (straight.update_error, turned.update_error),
            (straight.weight_error, turned.weight_error),
            (straight.changed_ratio, turned.changed_ratio),
        ]
        .into_iter()
        .chain(coefficients(&straight).iter().copied().zip(coefficients(&turned).iter().copied()))
        {
            prop_assert!(nearly(straight, turned), "{straight} is not {turned}");
        }
    }

    #[test]
    fn no_values_of_a_submission_make_a_nan(
        bits in vec(any::<u32>(), 300),
        steps in 1_usize..4,
    ) {
        let mut noise = Noise(7);
        let model = Model::full(vec![Trajectory::new(Dtype::F32, 300, steps, 1e-3, &mut noise)]);
        let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let finite = bits.iter().all(|&bits| f32::from_bits(bits).is_finite());
        let submission = [TensorBytes { dtype: Dtype::F32, bytes: &bytes }];
        let found = model.basis().unwrap().attribute(&submission).unwrap();
        prop_assert_eq!(found.non_finite == 0, finite);
        prop_assert_eq!(found.update_error.is_finite(), finite);
        prop_assert!(!found.update_error.is_nan() && !found.residual.is_nan());
        for coefficient in found.coefficients.iter().flatten() {
            prop_assert!(coefficient.is_finite());
        }
    }
}

#[test]
fn a_faithful_submission_has_every_coefficient_at_one() {
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
        let (model, mut noise) = model(5, dtype, 3);
        let found = model.attribute(&model.trained(&[1.0; 5], 0.0, &mut noise));
        for coefficient in coefficients(&found) {
            assert!((coefficient - 1.0).abs() < 1e-9, "{dtype}: {coefficient}");
        }
        assert_eq!(found.update_error, 0.0, "{dtype}");
        assert_eq!(found.weight_error, 0.0, "{dtype}");
        assert!(found.residual < 1e-9, "{dtype}: {}", found.residual);
        assert_eq!(found.changed_ratio, found.reference_changed_ratio);
        assert!(found.conditioning.is_well_conditioned());
    }
}

#[test]
fn a_skipped_step_is_named_by_its_coefficient_and_hidden_from_the_weight_error() {
    let (model, mut noise) = model(20, Dtype::F32, 11);
    let mut planted = [1.0; 20];
    planted[16] = 0.0;
    let found = model.attribute(&model.trained(&planted, 0.01, &mut noise));
    assert!(
        coefficients(&found)[16].abs() < 0.05,
        "{:?}",
        found.coefficients
    );
    for step in (0..20).filter(|&step| step != 16) {
        let coefficient = coefficients(&found)[step];
        assert!((coefficient - 1.0).abs() < 0.05, "{step}: {coefficient}");
    }
    assert!(found.update_error > 0.03, "{}", found.update_error);
    assert!(found.weight_error < 0.005, "{}", found.weight_error);
}

#[test]
fn one_step_is_attributed_whole() {
    let (model, mut noise) = model(1, Dtype::F32, 5);
    let found = model.attribute(&model.trained(&[0.25], 0.0, &mut noise));
    assert!((coefficients(&found)[0] - 0.25).abs() < 1e-3);
    assert!((found.update_error - 0.75).abs() < 1e-3);
    assert!((found.conditioning.steps[0].variance_inflation - 1.0).abs() < 1e-12);
}

#[test]
fn one_element_is_enough_for_one_step_and_too_little_for_two() {
    let trajectory = |updates: &[f64]| Trajectory {
        dtype: Dtype::F32,
        initial: vec![1.0],
        updates: updates.iter().map(|&update| vec![update]).collect(),
    };
    let one = Model::full(vec![trajectory(&[0.5])]).attribute(&[vec![1.25]]);
    assert_eq!(coefficients(&one), [0.5]);
    assert_eq!(one.residual, 0.0);
    assert_eq!(one.update_error, 0.5);
    let two = Model::full(vec![trajectory(&[0.5, 0.25])]).attribute(&[vec![1.25]]);
    assert_eq!(two.coefficients, None);
    assert_eq!(two.residual, f64::INFINITY);
    let collinear = Obstacle::Collinear;
    assert_eq!(obstacles(&two), [(0, collinear), (1, collinear)]);
    assert!((two.update_error - 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn steps_without_an_update_are_named_and_m2_is_measured_all_the_same() {
    let (mut model, mut noise) = model(4, Dtype::F32, 9);
    for (trajectory, _) in &mut model.tensors {
        trajectory.updates[1].fill(0.0);
    }
    let found = model.attribute(&model.trained(&[1.0, 1.0, 1.0, 0.0], 0.0, &mut noise));
    assert_eq!(found.coefficients, None);
    assert_eq!(obstacles(&found), [(1, Obstacle::NoUpdate)]);
    assert_eq!(found.conditioning.steps[1].update_norm, 0.0);
    assert!(found.conditioning.steps[2].variance_inflation < 20.0);
    assert!(found.update_error > 0.1 && found.update_error.is_finite());
}

#[test]
fn collinear_steps_are_named_and_the_others_are_not() {
    let (mut model, mut noise) = model(5, Dtype::F32, 13);
    let before = model.clone();
    assert!(before.basis().unwrap().conditioning().is_well_conditioned());
    for (trajectory, _) in &mut model.tensors {
        let repeated: Vec<f64> = trajectory.updates[1].iter().map(|u| u * -0.5).collect();
        trajectory.updates[3] = repeated;
    }
    let found = model.attribute(&model.trained(&[1.0; 5], 0.0, &mut noise));
    assert_eq!(found.coefficients, None);
    let collinear = Obstacle::Collinear;
    assert_eq!(obstacles(&found), [(1, collinear), (3, collinear)]);
    assert_eq!(found.update_error, 0.0);
}

#[test]
fn a_step_too_small_for_the_admitted_error_is_lost_in_noise_and_not_for_a_smaller_one() {
    let (mut model, mut noise) = model(3, Dtype::F32, 17);
    for (trajectory, _) in &mut model.tensors {
        trajectory.initial.fill(0.0);
        for update in &mut trajectory.updates[2] {
            *update *= 2e-4;
        }
    }
    let values = model.trained(&[1.0, 1.0, 0.5], 0.0, &mut noise);
    let found = model.attribute(&values);
    assert_eq!(found.coefficients, None);
    assert_eq!(obstacles(&found), [(2, Obstacle::LostInNoise)]);
    model.admitted_error = 1e-4;
    let found = model.attribute(&values);
    assert!(
        (coefficients(&found)[2] - 0.5).abs() < 0.01,
        "{:?}",
        found.coefficients
    );
}

#[test]
fn more_steps_than_elements_are_not_attributed() {
    let mut noise = Noise(19);
    let model = Model::full(vec![Trajectory::new(Dtype::F32, 8, 12, 1e-2, &mut noise)]);
    let found = model.attribute(&model.trained(&[1.0; 12], 0.0, &mut noise));
    assert_eq!(found.coefficients, None);
    assert!(obstacles(&found).len() > 1);
    assert_eq!(found.update_error, 0.0);
}

#[test]
fn two_hundred_steps_are_attributed() {
    let mut noise = Noise(23);
    let model = Model::full(vec![Trajectory::new(
        Dtype::F32,
        20_000,
        200,
        1e-2,
        &mut noise,
    )]);
    let mut planted = vec![1.0; 200];
    planted[0] = 0.0;
    planted[120] = 0.5;
    planted[199] = 0.0;
    let found = model.attribute(&model.trained(&planted, 1e-4, &mut noise));
    for (step, (found, planted)) in coefficients(&found).iter().zip(&planted).enumerate() {
        assert!(
            (found - planted).abs() < 0.01,
            "step {step}: {found} is not {planted}"
        );
    }
}

#[test]
fn a_tensor_of_pure_noise_disturbs_only_what_it_takes_part_in() {
    let (mut model, mut noise) = model(4, Dtype::F32, 29);
    let mut key_bias = Trajectory::new(Dtype::F32, 2_000, 4, 0.05, &mut noise);
    model.tensors.push((key_bias.clone(), (0..2_000).collect()));
    model.attributed.push(true);
    let mut values = model.trained(&[1.0; 4], 0.0, &mut noise);
    key_bias.updates = Trajectory::new(Dtype::F32, 2_000, 4, 0.05, &mut noise).updates;
    values[5] = key_bias.trained(&[1.0; 4]);

    let disturbed = model.attribute(&values);
    let worst = coefficients(&disturbed)
        .iter()
        .map(|c| (c - 1.0).abs())
        .fold(0.0, f64::max);
    assert!(worst > 0.5, "{worst}");
    model.attributed[5] = false;
    let spared = model.attribute(&values);
    for coefficient in coefficients(&spared) {
        assert!((coefficient - 1.0).abs() < 1e-6, "{coefficient}");
    }
    assert!(spared.residual < 1e-6);
    assert_eq!(spared.tensors, disturbed.tensors);
    assert!(spared.tensors[5].update_error > 0.5);
    assert!(spared.update_error < 1e-6 && disturbed.update_error > 0.1);
}

#[test]
fn a_basis_without_attributed_tensors_measures_but_attributes_nothing() {
    let (mut model, mut noise) = model(2, Dtype::F32, 31);
    model.attributed.fill(false);
    let found = model.attribute(&model.trained(&[1.0, 0.0], 0.0, &mut noise));
    assert_eq!(found.coefficients, None);
    assert_eq!(
        obstacles(&found),
        [(0, Obstacle::NoUpdate), (1, Obstacle::NoUpdate)]
    );
    assert!(found.tensors[0].update_error > 0.1);
    // A caller that spares everything must not find that everything is right.
    assert_eq!(found.update_error, f64::INFINITY);
}

#[test]
fn one_element_that_is_not_finite_anywhere_takes_every_number_away() {
    let (model, mut noise) = model(3, Dtype::F32, 37);
    let fine = model.trained(&[1.0; 3], 0.0, &mut noise);
    assert!(model.attribute(&fine).coefficients.is_some());
    for (tensor, element) in [(0, 0), (0, 39_999), (1, 17), (2, 299), (3, 0)] {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut values = fine.clone();
            values[tensor][element] = bad;
            let found = model.attribute(&values);
            assert_eq!(found.coefficients, None);
            assert_eq!(found.non_finite, 1);
            assert_eq!(found.tensors[tensor].non_finite, 1);
            for error in [
                found.residual,
                found.update_error,
                found.weight_error,
                found.tensors[tensor].update_error,
            ] {
                assert_eq!(error, f64::INFINITY);
            }
            assert!(found.conditioning.is_well_conditioned());
        }
    }
}

#[test]
fn a_tensor_outside_the_fit_that_is_not_finite_takes_the_coefficients_away_too() {
    let (mut model, mut noise) = model(3, Dtype::F32, 41);
    model.attributed[2] = false;
    let mut values = model.trained(&[1.0; 3], 0.0, &mut noise);
    assert!(model.attribute(&values).coefficients.is_some());
    values[2][5] = f64::NAN;
    let found = model.attribute(&values);
    assert_eq!(found.coefficients, None);
    assert_eq!(found.update_error, f64::INFINITY);
}

#[test]
fn a_reference_that_is_not_finite_is_refused_with_its_place_and_a_huge_one_is_not() {
    let state = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
    let build = |states: &[Vec<u8>]| {
        let states = states
            .iter()
            .map(|bytes| TensorBytes {
                dtype: Dtype::F32,
                bytes,
            })
            .collect();
        let sample = SampledTensor {
            population: 2,
            attributed: true,
            states,
        };
        StepBasis::new(&[sample], DEFAULT_ADMITTED_ERROR)
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(
            build(&[state([0.0; 2]), state([1.0, bad]), state([1.0; 2])])
                .err()
                .unwrap(),
            AttributionError::ReferenceNotFinite {
                tensor: 0,
                state: 1
            }
        );
    }
    // The update is larger than any f32.
    let (low, high) = (state([f32::MIN; 2]), state([f32::MAX; 2]));
    let basis = build(&[low, high.clone()]).unwrap();
    let found = basis
        .attribute(&[TensorBytes {
            dtype: Dtype::F32,
            bytes: &high,
        }])
        .unwrap();
    assert!((coefficients(&found)[0] - 1.0).abs() < 1e-12);
}

#[test]
fn denormal_updates_are_updates() {
    let least = f64::from(f32::from_bits(1));
    let trajectory = Trajectory {
        dtype: Dtype::F32,
        initial: vec![0.0; 64],
        updates: vec![
            (0..64).map(|n| least * f64::from(n % 3)).collect(),
            (0..64).map(|n| least * f64::from(n % 5)).collect(),
        ],
    };
    let model = Model {
        admitted_error: 1e-3,
        ..Model::full(vec![trajectory])
    };
    let values = model.trained(&[1.0, 0.0], 0.0, &mut Noise(0));
    let found = model.attribute(&values);
    assert!(
        (coefficients(&found)[0] - 1.0).abs() < 1e-9,
        "{:?}",
        found.coefficients
    );
    assert!(coefficients(&found)[1].abs() < 1e-9);
}

#[test]
fn dtypes_may_be_mixed_among_tensors_and_against_the_submission() {
    let mut noise = Noise(43);
    let dtypes = [Dtype::F32, Dtype::BF16, Dtype::F16];
    let model = Model::full(
        dtypes
            .map(|dtype| Trajectory::new(dtype, 3_000, 4, 0.2, &mut noise))
            .into(),
    );
    let values = model.trained(&[1.0, 1.0, 0.0, 1.0], 0.0, &mut noise);
    for shift in 0..3 {
        let found = model.attribute_as(&values, |dtype| {
            let place = dtypes.iter().position(|&other| other == dtype).unwrap();
            dtypes[(place + shift) % 3]
        });
        for (coefficient, planted) in coefficients(&found).iter().zip([1.0, 1.0, 0.0, 1.0]) {
            assert!(
                (coefficient - planted).abs() < 0.01,
                "{coefficient} is not {planted}"
            );
        }
    }
}

#[test]
fn an_element_counts_for_as_many_as_were_not_sampled() {
    let flat = |update: f64| Trajectory {
        dtype: Dtype::F32,
        initial: vec![1.0; 1_000],
        updates: vec![vec![update; 1_000]],
    };
    let mut model = Model::full(vec![flat(1.0), flat(1.0)]);
    model.tensors[0].1.truncate(10);
    let found = model.attribute(&[vec![2.0; 1_000], vec![1.0; 1_000]]);
    assert!((coefficients(&found)[0] - 0.5).abs() < 1e-12);
    assert!((found.update_error - 0.5_f64.sqrt()).abs() < 1e-12);
    assert!((found.residual - 0.5).abs() < 1e-12);
    assert!((found.changed_ratio - 0.5).abs() < 1e-12);
    assert!((found.reference_changed_ratio - 1.0).abs() < 1e-12);
    let norm = found.conditioning.steps[0].update_norm;
    assert!((norm - 2_000.0_f64.sqrt()).abs() < 1e-9);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (model, mut noise) = model(7, Dtype::BF16, 47);
    let values = model.trained(&[1.0; 7], 0.03, &mut noise);
    let results = [1, 2, 3].map(|threads| in_pool(threads, || model.attribute(&values)));
    assert!(results[0].coefficients.is_some());
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn records_that_do_not_fit_are_refused_by_name() {
    let zero: &'static [u8] = &[0; 4];
    let (half, one): (&'static [u8], &'static [u8]) = (&[0, 0, 0, 0x3f], &[0, 0, 0x80, 0x3f]);
    let state = |bytes| TensorBytes {
        dtype: Dtype::F32,
        bytes,
    };
    let sample = |population, states: &[&'static [u8]]| SampledTensor {
        population,
        attributed: true,
        states: states.iter().map(|&bytes| state(bytes)).collect(),
    };
    let message = |tensors: &[SampledTensor<'_>]| {
        StepBasis::new(tensors, DEFAULT_ADMITTED_ERROR)
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(message(&[sample(1, &[zero, one])]), None);
    assert_eq!(
        message(&[sample(1, &[zero, one]), sample(0, &[&[], &[]])]),
        None
    );
    for (tensors, expected) in [
        (vec![], "no tensor was sampled"),
        (
            vec![sample(1, &[zero])],
            "tensor 0 has 1 recorded states, but one step takes two",
        ),
        (
            vec![sample(1, &[zero, one]), sample(1, &[zero, half, one])],
            "tensor 1 has 3 recorded states but the first tensor has 2",
        ),
        (
            vec![sample(1, &[zero, &one[..3]])],
            "state 1 of tensor 0 cannot be read",
        ),
        (
            vec![sample(1, &[zero, &[]])],
            "state 1 of tensor 0 has 0 elements but its first state has 1",
        ),
        (
            vec![sample(0, &[zero, one])],
            "tensor 0 has 0 elements but was sampled at 1",
        ),
        (
            vec![sample(9, &[&[], &[]])],
            "tensor 0 has 9 elements but was sampled at 0",
        ),
    ] {
        assert_eq!(message(&tensors).as_deref(), Some(expected));
    }
    for admitted in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(StepBasis::new(&[sample(1, &[zero, one])], admitted).is_err());
    }
}

#[test]
fn submissions_that_do_not_fit_are_refused_by_name() {
    let (model, mut noise) = model(2, Dtype::F32, 53);
    let basis = model.basis().unwrap();
    assert_eq!(basis.steps(), 2);
    let values = model.trained(&[1.0; 2], 0.0, &mut noise);
    let bytes: Vec<Vec<u8>> = values
        .iter()
        .map(|values| bytes_at(Dtype::F32, values, &(0..values.len()).collect::<Vec<_>>()))
        .collect();
    let dtype = Dtype::F32;
    let mut submission: Vec<TensorBytes<'_>> = bytes
        .iter()
        .map(|bytes| TensorBytes { dtype, bytes })
        .collect();
    assert!(basis.attribute(&submission).is_ok());
    assert_eq!(
        basis.attribute(&submission[..4]).unwrap_err(),
        AttributionError::TensorCount {
            found: 4,
            expected: 5
        }
    );
    submission[2].bytes = &bytes[2][4..];
    let error = basis.attribute(&submission).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor 2 of the submission cannot be compared"
    );
    assert!(matches!(
        error,
        AttributionError::Submission {
            tensor: 2,
            source: CompareError::ElementCount {
                found: 299,
                expected: 300,
                ..
            }
        }
    ));
}
