//! Both comparisons against a plain implementation that takes one element at a time.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test cannot go on from ends it"
)]

use std::io::Write as _;

use crusades_numerics::{
    CHUNK_ELEMENTS, CompareError, Dtype, Operand, TensorBytes, ValueComparison, WeightComparison,
    compare_values, compare_weights,
};
use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;

/// A tensor whose bytes start at some offset in their allocation.
#[derive(Clone, Debug)]
struct Tensor {
    dtype: Dtype,
    storage: Vec<u8>,
    offset: usize,
}

impl Tensor {
    /// `values` rounded to `dtype`.
    fn new(dtype: Dtype, values: &[f32]) -> Self {
        Self::at_offset(dtype, values, 0)
    }

    fn at_offset(dtype: Dtype, values: &[f32], offset: usize) -> Self {
        let mut storage = vec![0xff; offset];
        for &value in values {
            match dtype {
                Dtype::F32 => storage.extend(value.to_le_bytes()),
                Dtype::BF16 => storage.extend(bf16::from_f32(value).to_le_bytes()),
                Dtype::F16 => storage.extend(f16::from_f32(value).to_le_bytes()),
            }
        }
        Self {
            dtype,
            storage,
            offset,
        }
    }

    fn bytes(&self) -> TensorBytes<'_> {
        TensorBytes {
            dtype: self.dtype,
            bytes: &self.storage[self.offset..],
        }
    }

    /// The values as they are after rounding.
    fn values(&self) -> Vec<f64> {
        let bytes = &self.storage[self.offset..];
        bytes
            .chunks(self.dtype.size_in_bytes())
            .map(|element| match (self.dtype, element) {
                (Dtype::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
                (Dtype::BF16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f64(),
                (Dtype::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f64(),
                _ => panic!("{} bytes are no {}", element.len(), self.dtype),
            })
            .collect()
    }
}

fn f32s(values: &[f32]) -> Tensor {
    Tensor::new(Dtype::F32, values)
}

fn weights(initial: &Tensor, reference: &Tensor, submission: &Tensor) -> WeightComparison {
    compare_weights(initial.bytes(), reference.bytes(), submission.bytes()).unwrap()
}

fn plain_weights(initial: &[f64], reference: &[f64], submission: &[f64]) -> WeightComparison {
    let mut result = WeightComparison::default();
    for ((&i, &r), &w) in initial.iter().zip(reference).zip(submission) {
        result.elements += 1;
        result.non_finite += u64::from(!w.is_finite());
        result.non_finite_reference += u64::from(!r.is_finite()) + u64::from(!i.is_finite());
        if w.is_finite() && r.is_finite() && i.is_finite() {
            result.changed += u64::from(w != i);
            result.reference_changed += u64::from(r != i);
            result.squared_error += (w - r).powi(2);
            result.squared_reference += r.powi(2);
            result.squared_update += (r - i).powi(2);
            result.squared_submission_update += (w - i).powi(2);
            result.max_abs_error = result.max_abs_error.max((w - r).abs());
        }
    }
    result
}

fn plain_values(expected: &[f64], actual: &[f64], atol: f64, rtol: f64) -> ValueComparison {
    let mut result = ValueComparison::default();
    let mut sum = 0.0;
    for (&e, &a) in expected.iter().zip(actual) {
        result.elements += 1;
        if e.is_finite() && a.is_finite() {
            let difference = (a - e).abs();
            sum += difference;
            result.max_abs_difference = result.max_abs_difference.max(difference);
            result.violations += u64::from(difference > atol + rtol * e.abs());
        } else {
            result.non_finite += 1;
            result.violations += 1;
        }
    }
    let finite = result.elements - result.non_finite;
    if finite > 0 {
        result.mean_abs_difference = sum / finite as f64;
    }
    result
}

/// Sums of numbers of one sign, so only the order of additions is between the two.
fn nearly(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-12 * left.abs().max(right.abs())
}

fn assert_same_weights(found: &WeightComparison, expected: &WeightComparison) {
    let sums = |c: &WeightComparison| {
        [
            c.squared_error,
            c.squared_reference,
            c.squared_update,
            c.squared_submission_update,
        ]
    };
    for (found_sum, expected_sum) in sums(found).into_iter().zip(sums(expected)) {
        assert!(nearly(found_sum, expected_sum), "{found:?}\n{expected:?}");
    }
    let exact = |c: &WeightComparison| WeightComparison {
        squared_error: 0.0,
        squared_reference: 0.0,
        squared_update: 0.0,
        squared_submission_update: 0.0,
        ..*c
    };
    assert_eq!(exact(found), exact(expected));
}

fn assert_same_values(found: &ValueComparison, expected: &ValueComparison) {
    assert!(
        nearly(found.mean_abs_difference, expected.mean_abs_difference),
        "{found:?}\n{expected:?}"
    );
    let exact = |c: &ValueComparison| ValueComparison {
        mean_abs_difference: 0.0,
        ..*c
    };
    assert_eq!(exact(found), exact(expected));
}

/// Ordinary, equal, tiny, huge and non-finite elements.
fn element() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -2.0_f32..2.0,
        4 => Just(1.0_f32),
        2 => prop::sample::select(vec![0.0_f32, -0.0, 1e-40, -1e-45, 6e-8, f32::MIN_POSITIVE]),
        2 => prop::sample::select(vec![f32::MAX, f32::MIN, 65504.0, 1e30]),
        1 => prop::sample::select(vec![f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        1 => any::<u32>().prop_map(f32::from_bits),
    ]
}

fn dtype() -> impl Strategy<Value = Dtype> {
    prop::sample::select(vec![Dtype::F32, Dtype::BF16, Dtype::F16])
}

/// `N` tensors of one length, each with its own dtype and offset.
fn tensors<const N: usize>() -> impl Strategy<Value = Vec<Tensor>> {
    (0_usize..5000).prop_flat_map(|length| {
        vec(
            (dtype(), vec(element(), length), 0_usize..5)
                .prop_map(|(dtype, values, offset)| Tensor::at_offset(dtype, &values, offset)),
            N,
        )
    })
}

/// Runs `work` on a rayon pool of its own.
fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(work)
}

/// `length` elements that look random, of which some are not finite if `salt` is odd.
fn scattered(dtype: Dtype, length: usize, salt: u32) -> Tensor {
    let mut state = u64::from(salt);
    let values: Vec<f32> = (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bits = u32::try_from(state >> 33).unwrap();
            if salt % 2 == 1 && bits.is_multiple_of(1009) {
                f32::NAN
            } else {
                bits as f32 / (1_u32 << 30) as f32 - 1.0
            }
        })
        .collect();
    Tensor::at_offset(dtype, &values, 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn weights_agree_with_the_plain_implementation(tensors in tensors::<3>()) {
        let [initial, reference, submission] = &tensors[..] else { panic!("three tensors") };
        assert_same_weights(
            &weights(initial, reference, submission),
            &plain_weights(&initial.values(), &reference.values(), &submission.values()),
        );
    }

    #[test]
    fn values_agree_with_the_plain_implementation(
        tensors in tensors::<2>(),
        atol in prop::sample::select(vec![0.0, 1e-3, 1.0]),
        rtol in prop::sample::select(vec![0.0, 1e-3, 1.0]),
    ) {
        let [expected, actual] = &tensors[..] else { panic!("two tensors") };
        assert_same_values(
            &compare_values(expected.bytes(), actual.bytes(), atol, rtol).unwrap(),
            &plain_values(&expected.values(), &actual.values(), atol, rtol),
        );
    }

    #[test]
    fn no_result_is_ever_nan(tensors in tensors::<3>()) {
        let [initial, reference, submission] = &tensors[..] else { panic!("three tensors") };
        let comparison = weights(initial, reference, submission);
        prop_assert!(!comparison.weight_relative_error().is_nan());
        prop_assert!(!comparison.update_relative_error().is_nan());
        prop_assert!((0.0..=1.0).contains(&comparison.changed_ratio()));
        prop_assert!(comparison.squared_error.is_finite());
        prop_assert!(comparison.squared_submission_update.is_finite());
    }
}

#[test]
fn every_pattern_of_sixteen_bits_widens_exactly() {
    for dtype in [Dtype::BF16, Dtype::F16] {
        for bits in 0..=u16::MAX {
            let tensor = Tensor {
                dtype,
                storage: bits.to_le_bytes().to_vec(),
                offset: 0,
            };
            let value = tensor.values()[0];
            let found = compare_values(f32s(&[0.0]).bytes(), tensor.bytes(), 0.0, 0.0).unwrap();
            assert_eq!(
                found.non_finite == 0,
                value.is_finite(),
                "{dtype} {bits:#x}"
            );
            if value.is_finite() {
                assert_eq!(found.max_abs_difference, value.abs(), "{dtype} {bits:#x}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let length = 3 * CHUNK_ELEMENTS + 777;
    for (first, second, third) in [
        (Dtype::BF16, Dtype::BF16, Dtype::BF16),
        (Dtype::F32, Dtype::BF16, Dtype::F16),
    ] {
        let initial = scattered(first, length, 2);
        let reference = scattered(second, length, 4);
        let submission = scattered(third, length, 5);
        let results = [1, 2, 3].map(|threads| {
            in_pool(threads, || {
                (
                    weights(&initial, &reference, &submission),
                    compare_values(reference.bytes(), submission.bytes(), 0.1, 0.1).unwrap(),
                )
            })
        });
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0], results[2]);
        let (found_weights, found_values) = results[0];
        assert!(found_weights.non_finite > 100);
        let [i, r, w] = [&initial, &reference, &submission].map(Tensor::values);
        assert_same_weights(&found_weights, &plain_weights(&i, &r, &w));
        assert_same_values(&found_values, &plain_values(&r, &w, 0.1, 0.1));
    }
}

#[test]
fn tensors_in_mapped_files_compare_as_those_in_memory_do() {
    let tensors = [2, 4, 5].map(|salt| scattered(Dtype::BF16, CHUNK_ELEMENTS + 321, salt));
    let mapped = tensors.each_ref().map(|tensor| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(tensor.bytes().bytes).unwrap();
        // SAFETY: nothing else knows the file, so it does not change under the map.
        unsafe { memmap2::Mmap::map(&file) }.unwrap()
    });
    let [initial, reference, submission] = mapped.each_ref().map(|map| TensorBytes {
        dtype: Dtype::BF16,
        bytes: map,
    });
    let found = compare_weights(initial, reference, submission).unwrap();
    let [initial, reference, submission] = &tensors;
    assert_eq!(found, weights(initial, reference, submission));
    assert!(found.non_finite > 0);
}

#[test]
fn alignment_changes_no_bit() {
    let values: Vec<f32> = (0..10_000_u16).map(|n| f32::from(n).sqrt()).collect();
    let zeros = f32s(&vec![0.0; values.len()]);
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
        let aligned = Tensor::new(dtype, &values);
        for offset in 1..4 {
            let shifted = Tensor::at_offset(dtype, &values, offset);
            assert_eq!(
                weights(&zeros, &aligned, &shifted),
                weights(&zeros, &aligned, &aligned)
            );
        }
    }
}

#[test]
fn equal_weights_have_no_error_and_others_have_theirs() {
    let initial = f32s(&[1.0, 2.0, 3.0]);
    let reference = f32s(&[1.0, 5.0, 7.0]);
    let exact = weights(&initial, &reference, &reference);
    assert_eq!(exact.weight_relative_error(), 0.0);
    assert_eq!(exact.update_relative_error(), 0.0);
    assert_eq!(exact.changed_ratio(), 2.0 / 3.0);
    assert_eq!(exact.reference_changed_ratio(), 2.0 / 3.0);
    assert_eq!(exact.squared_update, 25.0);

    let untrained = weights(&initial, &reference, &initial);
    assert_eq!(untrained.update_relative_error(), 1.0);
    assert_eq!(untrained.weight_relative_error(), 5.0 / 75.0_f64.sqrt());
    assert_eq!(untrained.changed_ratio(), 0.0);
    assert_eq!(untrained.max_abs_error, 4.0);
}

#[test]
fn nothing_over_nothing_is_no_error_and_something_over_nothing_is_infinite() {
    let zero = f32s(&[0.0, 0.0]);
    let moved = f32s(&[0.0, 0.5]);
    let still = weights(&zero, &zero, &zero);
    assert_eq!(still.weight_relative_error(), 0.0);
    assert_eq!(still.update_relative_error(), 0.0);
    let drifted = weights(&zero, &zero, &moved);
    assert_eq!(drifted.weight_relative_error(), f64::INFINITY);
    assert_eq!(drifted.update_relative_error(), f64::INFINITY);
}

#[test]
fn an_element_that_is_not_finite_makes_the_relative_errors_infinite() {
    let fine = f32s(&[1.0; 20]);
    for position in 0..20 {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; 20];
            values[position] = bad;
            let broken = f32s(&values);
            let by_submission = weights(&fine, &fine, &broken);
            assert_eq!(by_submission.non_finite, 1);
            assert_eq!(by_submission.non_finite_reference, 0);
            assert_eq!(by_submission.changed, 0);
            let by_reference = weights(&fine, &broken, &fine);
            assert_eq!(by_reference.non_finite, 0);
            assert_eq!(by_reference.non_finite_reference, 1);
            let by_all = weights(&broken, &broken, &broken);
            for broken in [by_submission, by_reference, by_all] {
                assert!(!broken.all_finite());
                assert_eq!(broken.squared_error, 0.0);
                assert_eq!(broken.weight_relative_error(), f64::INFINITY);
                assert_eq!(broken.update_relative_error(), f64::INFINITY);
            }
        }
    }
    let finite = weights(&fine, &fine, &fine);
    assert!(finite.all_finite());
    assert_eq!(finite.update_relative_error(), 0.0);
}

#[test]
fn the_sign_of_zero_and_the_dtype_are_no_change_but_the_least_denormal_is() {
    let zero = Tensor::new(Dtype::BF16, &[0.0]);
    let negative_zero = f32s(&[-0.0]);
    assert_eq!(weights(&zero, &zero, &negative_zero).changed, 0);
    let denormal = f32s(&[f32::from_bits(1)]);
    assert_eq!(weights(&zero, &zero, &denormal).changed, 1);
    assert!(weights(&zero, &zero, &denormal).squared_submission_update > 0.0);
}

#[test]
fn merging_two_tensors_is_comparing_all_their_elements() {
    let [i, r, w] = [2, 4, 5].map(|salt| scattered(Dtype::F32, 3000, salt));
    let part = |tensor: &Tensor, from: usize, to: usize| Tensor {
        dtype: tensor.dtype,
        storage: tensor.storage[tensor.offset + from * 4..tensor.offset + to * 4].to_vec(),
        offset: 0,
    };
    let compare = |from, to| {
        weights(
            &part(&i, from, to),
            &part(&r, from, to),
            &part(&w, from, to),
        )
    };
    assert_same_weights(
        &compare(0, 1234).merge(compare(1234, 3000)),
        &compare(0, 3000),
    );
    assert_eq!(
        compare(0, 3000).merge(WeightComparison::default()),
        compare(0, 3000)
    );
}

#[test]
fn a_tensor_of_no_dimensions_compares_as_its_one_element() {
    let found = weights(&f32s(&[1.0]), &f32s(&[3.0]), &f32s(&[2.0]));
    assert_eq!(found.elements, 1);
    assert_eq!(found.update_relative_error(), 0.5);
}

#[test]
fn empty_tensors_compare_as_nothing() {
    let empty = f32s(&[]);
    let found = weights(&empty, &empty, &empty);
    assert_eq!(found, WeightComparison::default());
    assert_eq!(found.changed_ratio(), 0.0);
    let found = compare_values(empty.bytes(), empty.bytes(), 0.0, 0.0).unwrap();
    assert_eq!(found, ValueComparison::default());
}

#[test]
fn a_difference_at_the_tolerance_passes_and_one_beyond_it_does_not() {
    let expected = f32s(&[2.0, -2.0]);
    let within = |actual: &[f32]| {
        compare_values(expected.bytes(), f32s(actual).bytes(), 0.5, 0.25)
            .unwrap()
            .within_tolerance()
    };
    assert!(within(&[3.0, -3.0]));
    assert!(within(&[1.0, -1.0]));
    assert!(!within(&[3.000_000_3, -3.0]));
    assert!(!within(&[2.0, -0.999_999_9]));
}

#[test]
fn equal_infinities_are_a_violation_and_equal_finite_values_are_not() {
    let compare = |value: f32| {
        let tensor = f32s(&[value, 1.0]);
        compare_values(tensor.bytes(), tensor.bytes(), 1.0, 1.0).unwrap()
    };
    assert!(!compare(f32::INFINITY).within_tolerance());
    assert!(!compare(f32::NAN).within_tolerance());
    assert_eq!(compare(f32::NAN).violations, 1);
    assert!(compare(f32::MAX).within_tolerance());
}

#[test]
fn unequal_element_counts_are_refused_with_both_counts() {
    let three = f32s(&[0.0; 3]);
    let four = f32s(&[0.0; 4]);
    assert_eq!(
        compare_weights(three.bytes(), three.bytes(), four.bytes()).unwrap_err(),
        CompareError::ElementCount {
            operand: Operand::Submission,
            found: 4,
            expected_operand: Operand::Initial,
            expected: 3,
        }
    );
    assert_eq!(
        compare_values(four.bytes(), three.bytes(), 0.0, 0.0)
            .unwrap_err()
            .to_string(),
        "the actual tensor has 3 elements but the expected tensor has 4"
    );
    assert!(compare_values(four.bytes(), four.bytes(), 0.0, 0.0).is_ok());
}

#[test]
fn equal_counts_in_different_dtypes_are_accepted() {
    let wide = f32s(&[1.0; 3]);
    let narrow = Tensor::new(Dtype::BF16, &[1.0; 3]);
    assert_eq!(weights(&wide, &narrow, &wide).squared_error, 0.0);
}

#[test]
fn a_part_of_an_element_is_refused() {
    let whole = Tensor::new(Dtype::F16, &[1.0]);
    let partial = TensorBytes {
        dtype: Dtype::F16,
        bytes: &[0; 3],
    };
    assert_eq!(
        compare_values(whole.bytes(), partial, 0.0, 0.0)
            .unwrap_err()
            .to_string(),
        "the actual tensor has 3 bytes, which is not a whole number of float16 elements"
    );
}

#[test]
fn a_tolerance_that_would_pass_everything_is_refused() {
    let tensor = f32s(&[1.0]);
    let compare = |atol, rtol| compare_values(tensor.bytes(), tensor.bytes(), atol, rtol);
    assert!(compare(0.0, 0.0).is_ok());
    assert!(compare(f64::INFINITY, 0.0).is_err());
    assert!(compare(0.0, f64::NAN).is_err());
    assert_eq!(
        compare(0.0, -1.0).unwrap_err().to_string(),
        "the tolerance rtol is -1, but it must be finite and at least 0"
    );
}

#[test]
fn dtypes_have_the_names_of_torch() {
    for (dtype, name, size) in [
        (Dtype::F32, "float32", 4),
        (Dtype::BF16, "bfloat16", 2),
        (Dtype::F16, "float16", 2),
    ] {
        assert_eq!(dtype.to_string(), name);
        assert_eq!(dtype.size_in_bytes(), size);
        let json = serde_json::to_string(&dtype).unwrap();
        assert_eq!(json, format!("\"{name}\""));
        assert_eq!(serde_json::from_str::<Dtype>(&json).unwrap(), dtype);
    }
}
