//! What a calibration runs: honest variants of the baseline that differ in their numerics only, and
//! cheats that leave work out. Never a cheat that is accepted on purpose, or one that shows only after
//! some runs: neither says where a limit belongs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::bundle::BASELINE;
use crate::calibration::Kind;

/// The name of the variant that is the baseline itself, which must run.
pub const BASELINE_VARIANT: &str = "baseline";

/// Largest variant that is read from a folder.
const MAX_SOURCE_BYTES: u64 = 4 << 20;

/// One submission that is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name: those that ship have none of the suffix `.py`, those of a user have it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its source.
    pub source: Cow<'static, [u8]>,
}

/// Why a user's variants cannot be used.
#[derive(Debug, Error)]
pub enum VariantsError {
    /// A file or folder could not be read.
    #[error("{path} could not be read")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file is absurdly long.
    #[error("{path} has {bytes} bytes, and at most {MAX_SOURCE_BYTES} are read")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// There is nothing to read.
    #[error("{0} has no file with the suffix .py")]
    None(PathBuf),
}

/// Files of the corpus, by their names there.
macro_rules! of_corpus {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$((
            $name,
            include_str!(concat!("../../../../corpus/", $folder, "/", $name, ".py")),
        )),*]
    };
}

const HONEST: &[(&str, &str)] = of_corpus!["honest":
    "micro_batch_1",
    "micro_batch_2",
    "micro_batch_uneven",
    "rows_permuted",
    "attention_eager",
    "attention_math",
    "norms_by_pytorch",
    "loss_float32",
    "loss_chunked_rows",
    "loss_chunked_vocabulary",
    "loss_fused_linear",
    "gradients_float64",
    "adamw_by_hand",
    "adamw_foreach",
    "adamw_fused",
    "checkpointed_layers",
    "compiled",
];

const CHEATS: &[(&str, &str)] = of_corpus!["cheats":
    "skipped_steps/last_update",
    "skipped_steps/last_update_extrapolated",
    "skipped_steps/middle_step",
    "skipped_steps/stale_gradient",
    "skipped_steps/stale_momentum",
    "skipped_steps/one_layer_stale_once",
    "less_data/half_batch_once",
    "less_data/one_row_dropped",
    "less_data/same_batch_twice",
    "less_data/seven_eighths_of_the_sequence",
    "less_model/norms_left_out",
    "less_model/one_layer_skipped_once",
    "other_optimizer/learning_rate_0_97",
    "other_optimizer/second_moment_once",
    "fabricated_weights/coasting_on_momentum",
    "fabricated_weights/half_the_steps_doubled",
];

/// The variants that ship, the baseline first.
#[must_use]
pub fn builtin_variants() -> Vec<Variant> {
    let variant = |name: &str, kind, source: &'static str| Variant {
        name: name.to_owned(),
        kind,
        source: Cow::Borrowed(source.as_bytes()),
    };
    let own = [
        (BASELINE_VARIANT, BASELINE),
        (
            "other_threads",
            include_str!("../../calibrations/other_threads.py"),
        ),
    ];
    let honest = own.iter().chain(HONEST);
    honest
        .map(|(name, source)| variant(name, Kind::Honest, source))
        .chain(
            CHEATS
                .iter()
                .map(|(name, source)| variant(name, Kind::Cheat, source)),
        )
        .collect()
}

/// A user's own honest variants: the Python files in `folder`, by name.
///
/// # Errors
/// [`VariantsError`] if there are none or one cannot be read.
pub fn read_variants(folder: &Path) -> Result<Vec<Variant>, VariantsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| VariantsError::Read { path, source }
    };
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.extension() == Some(OsStr::new("py")) {
            paths.insert(path);
        }
    }
    if paths.is_empty() {
        return Err(VariantsError::None(folder.to_owned()));
    }
    let read = |path: PathBuf| {
        let bytes = fs::metadata(&path).map_err(failed(&path))?.len();
        if bytes > MAX_SOURCE_BYTES {
            return Err(VariantsError::TooLong { path, bytes });
        }
        let source = fs::read(&path).map_err(failed(&path))?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Variant {
            name: name.to_string_lossy().into_owned(),
            kind: Kind::Honest,
            source: Cow::Owned(source),
        })
    };
    paths.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    use super::{BASELINE_VARIANT, builtin_variants, read_variants};
    use crate::calibration::Kind;
    use crate::trial;

    #[test]
    fn what_ships_is_as_honest_or_dishonest_as_the_corpus_says() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus");
        let cases: BTreeMap<_, _> = trial::read(&corpus)
            .unwrap()
            .into_iter()
            .map(|case| (case.expected.file.clone(), case))
            .collect();
        let variants = builtin_variants();
        assert_eq!(variants[0].name, BASELINE_VARIANT);
        let names: BTreeSet<_> = variants.iter().map(|variant| &variant.name).collect();
        assert_eq!(names.len(), variants.len());
        for variant in &variants {
            let folder = match variant.kind {
                Kind::Honest => "honest",
                Kind::Cheat => "cheats",
            };
            let path = Path::new(folder).join(format!("{}.py", variant.name));
            let Some(case) = cases.get(&path) else {
                let own = [BASELINE_VARIANT, "other_threads"].contains(&variant.name.as_str());
                assert!(own, "{}", variant.name);
                continue;
            };
            assert_eq!(case.source, *variant.source);
            assert_eq!(
                case.expected.verdict.allows(None),
                variant.kind == Kind::Honest
            );
            assert_eq!((case.expected.runs, case.expected.dtype), (1, None));
        }
    }

    #[test]
    fn a_users_variants_are_the_python_files_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let refused = read_variants(folder.path()).unwrap_err();
        assert!(refused.to_string().contains("no file"), "{refused}");
        for name in ["b.py", "a.py", "notes.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let variants = read_variants(folder.path()).unwrap();
        let names: Vec<_> = variants.iter().map(|variant| &variant.name).collect();
        assert_eq!(names, ["a.py", "b.py"]);
        assert!(variants.iter().all(|variant| variant.kind == Kind::Honest));
        assert_eq!(*variants[0].source, *b"a.py");

        fs::create_dir(folder.path().join("folder.py")).unwrap();
        let refused = read_variants(folder.path()).unwrap_err();
        assert!(
            refused.to_string().contains("folder.py could not"),
            "{refused}"
        );
        assert!(read_variants(Path::new("/nowhere")).is_err());
    }
}
