//! `hparams.json`: the rules of one competition.
//!
//! Files of the Crusades subnet are accepted as they are. A key that is not known is a warning that
//! names it; a wrong type or range is an error that names the key, the value and what is allowed.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// What the score of a submission measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Model FLOPs utilisation, in percent.
    #[default]
    Mfu,
    /// Tokens per second.
    Tps,
}

impl Metric {
    /// The unit of a score, as people write it.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Mfu => "% MFU",
            Self::Tps => "tokens/s",
        }
    }
}

/// Where the weights at the start of every run come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InitialWeights {
    /// The weights in the model's folder.
    #[default]
    Pretrained,
    /// The model's own random initialisation, drawn from the round's seed.
    Random,
}

/// Where an evaluation is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// On this machine.
    #[default]
    Local,
    /// As a job of a Slurm cluster.
    Slurm,
}

/// Which final weights a worker hands over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WeightsDump {
    /// Those at secret positions that it learns when training has ended, within the timed region.
    #[default]
    Sampled,
    /// The same, and after the timed region all of them, which must agree with the former bit for
    /// bit.
    Full,
}

/// A set of limits over the same checks. It fills in what the hparams leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Loss, share of changed elements and error of the weights, with the limits of the Crusades
    /// subnet.
    #[default]
    Crusades,
    /// Logits and loss, with the tolerances of the Tournament subnet.
    Tournament,
}

/// Element type of parameters and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelDtype {
    /// `bfloat16` on an accelerator, `float32` on a CPU.
    #[default]
    Auto,
    /// IEEE 754 binary32.
    Float32,
    /// The upper half of a binary32.
    Bfloat16,
}

/// The AdamW that every submission trains with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OptimizerHparams {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for OptimizerHparams {
    fn default() -> Self {
        Self {
            lr: 1e-4,
            betas: (0.9, 0.95),
            weight_decay: 0.1,
        }
    }
}

/// Limits of the container that a submission runs in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DockerHparams {
    /// Accelerators per evaluation.
    pub num_gpus: u32,
    /// Memory limit, as Docker writes it: `80g`, `512m`, or bytes.
    pub memory_limit: String,
    /// Size of shared memory, as Docker writes it.
    pub shm_size: String,
}

impl Default for DockerHparams {
    fn default() -> Self {
        Self {
            num_gpus: 1,
            memory_limit: "80g".to_owned(),
            shm_size: "32g".to_owned(),
        }
    }
}

/// Limits of the checks. A check whose limit is `null` is not made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VerificationHparams {
    /// Where the limits come from that are not given here.
    pub profile: Profile,
    /// Which final weights are handed over.
    pub weights: WeightsDump,
    /// Largest |loss - reference loss| (Crusades).
    pub max_loss_difference: Option<f64>,
    /// The same under its Tournament name; where both are set, both apply.
    pub loss_tolerance: Option<f64>,
    /// Absolute tolerance of the last step's logits (Tournament).
    pub logits_atol: Option<f64>,
    /// Tolerance relative to the reference's logits; 0 where only `logits_atol` is set.
    pub logits_rtol: Option<f64>,
    /// Smallest number of elements that differ from the initial weights, as a share of the number
    /// that differ in the reference: in bf16 a step too small to be represented leaves many where
    /// they were.
    pub min_params_changed_ratio: Option<f64>,
    /// Largest ‖w - w_ref‖ / ‖w_ref‖.
    pub weight_relative_error_max: Option<f64>,
    /// Largest ‖Δw - Δw_ref‖ / ‖Δw_ref‖ with Δw = w - w_init. The default is for bf16
    /// parameters; float32 on a CPU bears 1e-3.
    pub update_relative_error_max: Option<f64>,
    /// Largest |c - 1|, where c is the part of one step's update that is found in the submission's
    /// whole update. The default is for bf16 parameters.
    pub step_coefficient_max_deviation: Option<f64>,
    /// Largest update error of one tensor, as a multiple of the noise that the calibration found
    /// in honest runs. Without a calibration tensors have no limits of their own.
    pub tensor_noise_factor: Option<f64>,
    /// A file that `crusades calibrate` wrote. Its limits take the place of
    /// `update_relative_error_max` and `step_coefficient_max_deviation`.
    pub calibration: Option<String>,
    /// Largest relative difference between two clocks of the host.
    pub timer_divergence_threshold: Option<f64>,
}

impl Default for VerificationHparams {
    fn default() -> Self {
        Self::of(Profile::default())
    }
}

impl VerificationHparams {
    /// The limits of a profile. The update and its steps are looked at in both: nothing else finds
    /// the step that was left out.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        let crusades = Self {
            profile: Profile::Crusades,
            weights: WeightsDump::default(),
            max_loss_difference: Some(0.3),
            loss_tolerance: None,
            logits_atol: None,
            logits_rtol: None,
            min_params_changed_ratio: Some(0.7),
            weight_relative_error_max: Some(0.008),
            update_relative_error_max: Some(0.05),
            step_coefficient_max_deviation: Some(0.05),
            tensor_noise_factor: Some(4.0),
            calibration: None,
            timer_divergence_threshold: Some(0.005),
        };
        match profile {
            Profile::Crusades => crusades,
            // CONTRACT section 4, the limits of the Tournament.
            Profile::Tournament => Self {
                profile,
                max_loss_difference: None,
                loss_tolerance: Some(1e-3),
                logits_atol: Some(1e-3),
                logits_rtol: Some(1e-3),
                min_params_changed_ratio: None,
                weight_relative_error_max: None,
                ..crusades
            },
        }
    }
}

/// How utilisation is computed, and which values are believed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MfuHparams {
    /// Dense peak of one device in TFLOP/s. `null`: measured by the trusted worker, which is for
    /// CPUs.
    pub gpu_peak_tflops: Option<f64>,
    /// Largest believable MFU in percent.
    pub max_plausible_mfu: Option<f64>,
    /// Smallest accepted MFU in percent; 0 turns the floor off.
    pub min_mfu: f64,
}

impl Default for MfuHparams {
    fn default() -> Self {
        Self {
            gpu_peak_tflops: Some(312.0),
            max_plausible_mfu: Some(75.0),
            min_mfu: 0.0,
        }
    }
}

/// When a run was disturbed by something else on the machine, and is repeated instead of scored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DisturbanceHparams {
    /// Largest share of the machine's CPU time that went to other work during the timed region.
    pub max_foreign_cpu_share: Option<f64>,
    /// How often one run is repeated before it counts as failed by the machine.
    pub max_repeats: u32,
}

impl Default for DisturbanceHparams {
    fn default() -> Self {
        Self {
            max_foreign_cpu_share: None,
            max_repeats: 2,
        }
    }
}

/// What a challenger has to beat (CONTRACT section 5).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdaptiveThresholdHparams {
    /// Improvement that is always needed, as a ratio.
    pub base_threshold: f64,
    /// Share by which the excess over the base decays per interval.
    pub decay_percent: f64,
    /// Length of the interval in blocks.
    pub decay_interval_blocks: u64,
}

impl Default for AdaptiveThresholdHparams {
    fn default() -> Self {
        Self {
            base_threshold: 0.002,
            decay_percent: 0.05,
            decay_interval_blocks: 100,
        }
    }
}

/// The optional fee of a submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PaymentHparams {
    /// Whether a fee is asked.
    pub enabled: bool,
    /// The fee in rao (10^-9 TAO).
    pub fee_rao: u64,
    /// Who is paid; `null`: the owner of the burn hotkey.
    pub payment_address: Option<String>,
    /// Seconds for one request to the chain.
    pub rpc_timeout: u64,
    /// Tries for one request to the chain.
    pub rpc_retries: u32,
    /// Node that keeps old blocks.
    pub archive_endpoint: Option<String>,
}

impl Default for PaymentHparams {
    fn default() -> Self {
        Self {
            enabled: false,
            fee_rao: 0,
            payment_address: None,
            rpc_timeout: 30,
            rpc_retries: 3,
            archive_endpoint: None,
        }
    }
}

/// Settings of the scan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ScanHparams {
    /// A policy file that replaces the built-in one.
    pub policy: Option<String>,
}

/// The rules of one competition (`hparams.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Hparams {
    /// The subnet.
    pub netuid: u16,
    /// Version of the competition; a new one begins with an empty leaderboard.
    pub competition_version: u32,
    /// What the score measures.
    pub metric: Metric,
    /// Share of the weights that is burnt.
    pub burn_rate: f64,
    /// The uid that the burnt share goes to.
    pub burn_uid: u16,
    /// Runs per submission.
    pub evaluation_runs: u32,
    /// Training steps per run.
    pub eval_steps: u32,
    /// Seconds that one phase of an evaluation may take.
    pub eval_timeout: u64,
    /// Smallest share of runs that must succeed.
    pub min_success_rate: f64,
    /// Evaluations by different validators that make a score final.
    pub min_validators: u32,
    /// The model: `builtin:tiny`, or a folder in the format of Hugging Face.
    pub benchmark_model_name: String,
    /// Where the initial weights come from.
    pub initial_weights: InitialWeights,
    /// Element type of the model.
    pub dtype: ModelDtype,
    /// Folder with `tokenizer.json`, or that file; `null`: the model's folder.
    pub benchmark_tokenizer_name: Option<String>,
    /// The corpus: `builtin:zipf`, or a text, JSON-lines or Parquet file.
    pub benchmark_dataset_name: String,
    /// Split of a hub's data set.
    pub benchmark_dataset_split: String,
    /// Documents that are used; `null` for all.
    pub benchmark_data_samples: Option<u64>,
    /// Seed of the generated corpus.
    pub benchmark_master_seed: u64,
    /// Tokens per row.
    pub benchmark_sequence_length: u32,
    /// Rows per batch.
    pub benchmark_batch_size: u32,
    /// The optimizer.
    pub optimizer: OptimizerHparams,
    /// Whether the worker makes the optimizer and passes it to the submission.
    pub optimizer_provided: bool,
    /// Where evaluations are carried out.
    pub executor: Executor,
    /// Settings of the scan.
    pub scan: ScanHparams,
    /// Limits of the checks.
    pub verification: VerificationHparams,
    /// Utilisation.
    pub mfu: MfuHparams,
    /// When a run is repeated.
    pub disturbance: DisturbanceHparams,
    /// Limits of the container.
    pub docker: DockerHparams,
    /// Settings of a remote executor that is not used here; kept so that files stay valid.
    pub basilica: serde_json::Map<String, Value>,
    /// What a challenger has to beat.
    pub adaptive_threshold: AdaptiveThresholdHparams,
    /// The fee.
    pub payment: PaymentHparams,
    /// Blocks between two settings of the weights.
    pub set_weights_interval_blocks: u64,
    /// Blocks until a commitment can be read.
    pub reveal_blocks: u64,
    /// Blocks between two commitments of one hotkey.
    pub min_blocks_between_commits: u64,
    /// Seconds per block.
    pub block_time: f64,
    /// Seconds that fetching a submission may take.
    pub code_fetch_timeout: u64,
    /// URLs that are remembered as seen.
    pub max_evaluated_urls: u64,
}

impl Default for Hparams {
    fn default() -> Self {
        Self {
            netuid: 3,
            competition_version: 1,
            metric: Metric::Mfu,
            burn_rate: 0.0,
            burn_uid: 0,
            evaluation_runs: 5,
            eval_steps: 5,
            eval_timeout: 600,
            min_success_rate: 0.5,
            min_validators: 1,
            benchmark_model_name: "Qwen/Qwen2.5-3B".to_owned(),
            initial_weights: InitialWeights::Pretrained,
            dtype: ModelDtype::Auto,
            benchmark_tokenizer_name: None,
            benchmark_dataset_name: "HuggingFaceFW/fineweb".to_owned(),
            benchmark_dataset_split: "train".to_owned(),
            benchmark_data_samples: Some(10_000),
            benchmark_master_seed: 42,
            benchmark_sequence_length: 1024,
            benchmark_batch_size: 8,
            optimizer: OptimizerHparams::default(),
            optimizer_provided: true,
            executor: Executor::Local,
            scan: ScanHparams::default(),
            verification: VerificationHparams::default(),
            mfu: MfuHparams::default(),
            disturbance: DisturbanceHparams::default(),
            docker: DockerHparams::default(),
            basilica: serde_json::Map::new(),
            adaptive_threshold: AdaptiveThresholdHparams::default(),
            payment: PaymentHparams::default(),
            set_weights_interval_blocks: 100,
            reveal_blocks: 20,
            min_blocks_between_commits: 360,
            block_time: 12.0,
            code_fetch_timeout: 30,
            max_evaluated_urls: 10_000,
        }
    }
}

/// Hparams that were read, and the keys in the file that mean nothing here.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedHparams {
    /// The values, defaults filled in.
    pub hparams: Hparams,
    /// Paths of unknown keys, such as `verification.max_loss_diference`.
    pub unknown_keys: Vec<String>,
}

/// Why hparams cannot be used.
#[derive(Debug, Error)]
pub enum HparamsError {
    /// The text is not JSON.
    #[error("it is not valid JSON")]
    Json(#[source] serde_json::Error),
    /// The text is JSON, and not an object.
    #[error("it is not a JSON object (`{{\"netuid\": 3, ...}}`)")]
    NotAnObject,
    /// A value has the wrong type or is not one of the allowed words.
    #[error("`{key}`: {reason}")]
    Type {
        /// The path of the key.
        key: String,
        /// The value that was found and the type that was expected.
        reason: String,
    },
    /// A value is out of range.
    #[error("`{key}` is {value}, and must be {allowed}")]
    Range {
        /// The path of the key.
        key: &'static str,
        /// The value that was found.
        value: String,
        /// What is allowed, completing "must be".
        allowed: String,
    },
}

impl Hparams {
    /// Reads the text of an `hparams.json`.
    ///
    /// # Errors
    /// [`HparamsError`] for text that is not JSON, a value of the wrong type, and a value out of
    /// range.
    pub fn parse(text: &str) -> Result<ParsedHparams, HparamsError> {
        let mut value: Value = serde_json::from_str(text).map_err(HparamsError::Json)?;
        if !value.is_object() {
            // Serde would read an array as the fields in order.
            return Err(HparamsError::NotAnObject);
        }
        fill_in_profile(&mut value)?;
        let mut unknown_keys = Vec::new();
        let mut note_unknown = |path: serde_ignored::Path<'_>| unknown_keys.push(path.to_string());
        let deserializer = serde_ignored::Deserializer::new(value, &mut note_unknown);
        let hparams: Self =
            serde_path_to_error::deserialize(deserializer).map_err(|error| HparamsError::Type {
                key: error.path().to_string(),
                reason: error.into_inner().to_string(),
            })?;
        hparams.check_ranges()?;
        Ok(ParsedHparams {
            hparams,
            unknown_keys,
        })
    }

    /// Memory that the sandbox of one evaluation may use, in bytes.
    #[must_use]
    pub fn memory_limit_bytes(&self) -> u64 {
        parse_size(&self.docker.memory_limit).unwrap_or(u64::MAX)
    }

    /// Size of shared memory in the sandbox of one evaluation, in bytes.
    #[must_use]
    pub fn shm_size_bytes(&self) -> u64 {
        parse_size(&self.docker.shm_size).unwrap_or(u64::MAX)
    }

    /// Tokens that one run trains on.
    #[must_use]
    pub fn unique_tokens(&self) -> u64 {
        u64::from(self.benchmark_batch_size)
            * u64::from(self.benchmark_sequence_length)
            * u64::from(self.eval_steps)
    }

    fn check_ranges(&self) -> Result<(), HparamsError> {
        let share = 0.0..=1.0;
        let positive = f64::MIN_POSITIVE..=f64::MAX;
        let seconds = 1..=7 * 24 * 3600;
        in_range("burn_rate", self.burn_rate, &share)?;
        in_range("evaluation_runs", self.evaluation_runs, &(1..=1000))?;
        in_range("eval_steps", self.eval_steps, &(1..=100_000))?;
        in_range("eval_timeout", self.eval_timeout, &seconds)?;
        in_range("min_success_rate", self.min_success_rate, &share)?;
        in_range("min_validators", self.min_validators, &(1..=4096))?;
        in_range(
            "benchmark_sequence_length",
            self.benchmark_sequence_length,
            &(2..=1 << 20),
        )?;
        in_range(
            "benchmark_batch_size",
            self.benchmark_batch_size,
            &(1..=1 << 16),
        )?;
        in_range_if_set(
            "benchmark_data_samples",
            self.benchmark_data_samples,
            &(1..=u64::MAX),
        )?;
        in_range("optimizer.lr", self.optimizer.lr, &positive)?;
        for (key, beta) in [
            ("optimizer.betas[0]", self.optimizer.betas.0),
            ("optimizer.betas[1]", self.optimizer.betas.1),
        ] {
            in_range(key, beta, &(0.0..=0.999_999_999))?;
        }
        in_range(
            "optimizer.weight_decay",
            self.optimizer.weight_decay,
            &(0.0..=1e6),
        )?;
        let checks = &self.verification;
        let non_negative = 0.0..=f64::MAX;
        for (key, limit) in [
            (
                "verification.max_loss_difference",
                checks.max_loss_difference,
            ),
            ("verification.loss_tolerance", checks.loss_tolerance),
            ("verification.logits_atol", checks.logits_atol),
            ("verification.logits_rtol", checks.logits_rtol),
            (
                "verification.weight_relative_error_max",
                checks.weight_relative_error_max,
            ),
            (
                "verification.update_relative_error_max",
                checks.update_relative_error_max,
            ),
            (
                "verification.step_coefficient_max_deviation",
                checks.step_coefficient_max_deviation,
            ),
            (
                "verification.tensor_noise_factor",
                checks.tensor_noise_factor,
            ),
            (
                "verification.timer_divergence_threshold",
                checks.timer_divergence_threshold,
            ),
            ("mfu.max_plausible_mfu", self.mfu.max_plausible_mfu),
        ] {
            in_range_if_set(key, limit, &non_negative)?;
        }
        in_range_if_set(
            "verification.min_params_changed_ratio",
            checks.min_params_changed_ratio,
            &share,
        )?;
        in_range_if_set("mfu.gpu_peak_tflops", self.mfu.gpu_peak_tflops, &positive)?;
        in_range("mfu.min_mfu", self.mfu.min_mfu, &(0.0..=100.0))?;
        in_range_if_set(
            "disturbance.max_foreign_cpu_share",
            self.disturbance.max_foreign_cpu_share,
            &share,
        )?;
        in_range(
            "disturbance.max_repeats",
            self.disturbance.max_repeats,
            &(0..=100),
        )?;
        in_range("docker.num_gpus", self.docker.num_gpus, &(1..=64))?;
        for (key, size) in [
            ("docker.memory_limit", &self.docker.memory_limit),
            ("docker.shm_size", &self.docker.shm_size),
        ] {
            if parse_size(size).is_none_or(|bytes| bytes == 0) {
                return Err(HparamsError::Range {
                    key,
                    value: format!("\"{size}\""),
                    allowed: "a size such as \"512m\", \"80g\" or \"1073741824\"".to_owned(),
                });
            }
        }
        let threshold = &self.adaptive_threshold;
        in_range(
            "adaptive_threshold.base_threshold",
            threshold.base_threshold,
            &share,
        )?;
        in_range(
            "adaptive_threshold.decay_percent",
            threshold.decay_percent,
            &share,
        )?;
        in_range(
            "adaptive_threshold.decay_interval_blocks",
            threshold.decay_interval_blocks,
            &(1..=u64::MAX),
        )?;
        in_range("payment.rpc_timeout", self.payment.rpc_timeout, &seconds)?;
        in_range("payment.rpc_retries", self.payment.rpc_retries, &(0..=100))?;
        in_range(
            "set_weights_interval_blocks",
            self.set_weights_interval_blocks,
            &(1..=u64::MAX),
        )?;
        in_range("block_time", self.block_time, &(0.001..=86_400.0))?;
        in_range("code_fetch_timeout", self.code_fetch_timeout, &seconds)?;
        Ok(())
    }
}

/// Writes the limits of `verification.profile` where the hparams have none. A profile that does not
/// exist is left for the one who reads the values, and names the key.
fn fill_in_profile(hparams: &mut Value) -> Result<(), HparamsError> {
    let Some(Value::Object(given)) = hparams.get_mut("verification") else {
        return Ok(());
    };
    let profile = given.get("profile").map(Profile::deserialize);
    let Some(Ok(profile)) = profile else {
        return Ok(());
    };
    let limits = serde_json::to_value(VerificationHparams::of(profile));
    if let Value::Object(limits) = limits.map_err(HparamsError::Json)? {
        for (key, limit) in limits {
            given.entry(key).or_insert(limit);
        }
    }
    Ok(())
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: T,
    allowed: &RangeInclusive<T>,
) -> Result<(), HparamsError>
where
    RangeInclusive<T>: DescribeRange,
{
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(HparamsError::Range {
        key,
        value: value.to_string(),
        allowed: allowed.describe(),
    })
}

fn in_range_if_set<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: Option<T>,
    allowed: &RangeInclusive<T>,
) -> Result<(), HparamsError>
where
    RangeInclusive<T>: DescribeRange,
{
    value.map_or(Ok(()), |value| in_range(key, value, allowed))
}

/// Says what a range allows, completing "must be".
trait DescribeRange {
    fn describe(&self) -> String;
}

impl DescribeRange for RangeInclusive<f64> {
    fn describe(&self) -> String {
        match (*self.start(), *self.end()) {
            (0.0, f64::MAX) => "at least 0".to_owned(),
            (f64::MIN_POSITIVE, f64::MAX) => "more than 0".to_owned(),
            (start, end) => format!("from {start} to {end}"),
        }
    }
}

macro_rules! describe_integer_range {
    ($($integer:ty),*) => {$(
        impl DescribeRange for RangeInclusive<$integer> {
            fn describe(&self) -> String {
                if *self.end() == <$integer>::MAX {
                    format!("at least {}", self.start())
                } else {
                    format!("from {} to {}", self.start(), self.end())
                }
            }
        }
    )*};
}
describe_integer_range!(u32, u64);

/// Bytes of a size as Docker writes it: a whole number with an optional unit `b`, `k`, `m`, `g` or
/// `t` (powers of 1024, upper or lower case, a `b` or `ib` may follow).
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::{Hparams, HparamsError, Metric, Profile, VerificationHparams, parse_size};

    fn error(text: &str) -> String {
        Hparams::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_object_gives_the_defaults_of_the_contract() {
        let parsed = Hparams::parse("{}").unwrap();
        let hparams = parsed.hparams;
        assert!(parsed.unknown_keys.is_empty());
        assert_eq!(
            (hparams.netuid, hparams.evaluation_runs, hparams.eval_steps),
            (3, 5, 5)
        );
        assert_eq!(hparams.benchmark_model_name, "Qwen/Qwen2.5-3B");
        assert_eq!(hparams.benchmark_batch_size, 8);
        assert_eq!(hparams.verification.weight_relative_error_max, Some(0.008));
        assert_eq!(hparams.unique_tokens(), 8 * 1024 * 5);
    }

    #[test]
    fn unknown_keys_are_named_and_known_ones_still_read() {
        let text = r#"{"netuid": 7, "colour": 1, "verification": {"max_loss_diference": 1}, "basilica": {"any": [1]}}"#;
        let parsed = Hparams::parse(text).unwrap();
        assert_eq!(parsed.hparams.netuid, 7);
        assert_eq!(
            parsed.unknown_keys,
            ["colour", "verification.max_loss_diference"]
        );
    }

    #[test]
    fn a_wrong_type_names_the_key_the_value_and_what_was_expected() {
        let message = error(r#"{"eval_steps": "five"}"#);
        assert!(message.contains("`eval_steps`"), "{message}");
        assert!(
            message.contains("\"five\"") && message.contains("u32"),
            "{message}"
        );
        let message = error(r#"{"verification": {"logits_atol": []}}"#);
        assert!(message.contains("verification.logits_atol"), "{message}");
        let message = error(r#"{"metric": "speed"}"#);
        assert!(
            message.contains("speed") && message.contains("`tps`"),
            "{message}"
        );
        assert!(matches!(Hparams::parse("{"), Err(HparamsError::Json(_))));
        assert!(matches!(
            Hparams::parse("[]"),
            Err(HparamsError::NotAnObject)
        ));
    }

    #[test]
    fn a_value_out_of_range_names_the_key_the_value_and_the_range() {
        assert_eq!(
            error(r#"{"eval_steps": 0}"#),
            "`eval_steps` is 0, and must be from 1 to 100000"
        );
        assert_eq!(
            error(r#"{"optimizer": {"lr": 0}}"#),
            "`optimizer.lr` is 0, and must be more than 0"
        );
        assert_eq!(
            error(r#"{"docker": {"memory_limit": "much"}}"#),
            "`docker.memory_limit` is \"much\", and must be a size such as \"512m\", \"80g\" or \"1073741824\""
        );
        assert!(Hparams::parse(r#"{"min_success_rate": 1.0}"#).is_ok());
        assert!(Hparams::parse(r#"{"min_success_rate": 1.1}"#).is_err());
    }

    #[test]
    fn a_check_can_be_turned_off_with_null() {
        let text = r#"{"metric": "tps", "verification": {"weight_relative_error_max": null, "loss_tolerance": 1e-3}}"#;
        let hparams = Hparams::parse(text).unwrap().hparams;
        assert_eq!(hparams.metric, Metric::Tps);
        assert_eq!(hparams.verification.weight_relative_error_max, None);
        assert_eq!(hparams.verification.loss_tolerance, Some(1e-3));
    }

    fn limits(verification: &str) -> VerificationHparams {
        let text = format!(r#"{{"verification": {verification}}}"#);
        let parsed = Hparams::parse(&text).unwrap();
        assert!(parsed.unknown_keys.is_empty(), "{:?}", parsed.unknown_keys);
        parsed.hparams.verification
    }

    #[test]
    fn a_profile_fills_in_the_limits_that_are_not_given() {
        let crusades = limits(r#"{"profile": "crusades"}"#);
        assert_eq!(crusades, VerificationHparams::default());
        assert_eq!(crusades, limits("{}"));
        assert_eq!(crusades.max_loss_difference, Some(0.3));
        assert_eq!(crusades.logits_atol, None);

        let tournament = limits(r#"{"profile": "tournament"}"#);
        assert_eq!(tournament, VerificationHparams::of(Profile::Tournament));
        assert_eq!(
            (
                tournament.logits_atol,
                tournament.logits_rtol,
                tournament.loss_tolerance
            ),
            (Some(1e-3), Some(1e-3), Some(1e-3))
        );
        assert_eq!(tournament.max_loss_difference, None);
        assert_eq!(tournament.min_params_changed_ratio, None);
        assert_eq!(tournament.weight_relative_error_max, None);
        // What finds skipped work stays on.
        for limits in [&crusades, &tournament] {
            assert_eq!(limits.update_relative_error_max, Some(0.05));
            assert_eq!(limits.step_coefficient_max_deviation, Some(0.05));
            assert_eq!(limits.tensor_noise_factor, Some(4.0));
        }
    }

    #[test]
    fn a_limit_that_is_given_wins_over_the_profiles() {
        let given = limits(
            r#"{"profile": "tournament", "logits_rtol": null, "max_loss_difference": 0.5,
                "loss_tolerance": 0.01}"#,
        );
        assert_eq!(given.logits_rtol, None);
        assert_eq!(given.max_loss_difference, Some(0.5));
        assert_eq!(given.loss_tolerance, Some(0.01));
        // The others are the profile's.
        assert_eq!(given.logits_atol, Some(1e-3));
        assert_eq!(given.weight_relative_error_max, None);
    }

    #[test]
    fn a_profile_that_does_not_exist_is_refused_with_those_that_do() {
        for wrong in [r#""olympics""#, "1", "null"] {
            let message = error(&format!(r#"{{"verification": {{"profile": {wrong}}}}}"#));
            assert!(message.contains("`verification.profile`"), "{message}");
        }
        let message = error(r#"{"verification": {"profile": "olympics"}}"#);
        assert!(
            message.contains("olympics")
                && message.contains("`crusades`")
                && message.contains("`tournament`"),
            "{message}"
        );
    }

    #[test]
    fn hparams_that_are_written_and_read_again_are_the_same() {
        let mut hparams = Hparams::default();
        for profile in [Profile::Crusades, Profile::Tournament] {
            hparams.verification = VerificationHparams::of(profile);
            hparams.verification.loss_tolerance = None;
            let text = serde_json::to_string(&hparams).unwrap();
            assert_eq!(Hparams::parse(&text).unwrap().hparams, hparams);
        }
    }

    #[test]
    fn sizes_are_read_as_docker_writes_them() {
        assert_eq!(parse_size("80g"), Some(80 << 30));
        assert_eq!(parse_size("512MiB"), Some(512 << 20));
        assert_eq!(parse_size("1024"), Some(1024));
        for wrong in ["", "g", "1.5g", "-1", "1x", "99999999999t"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }
}
