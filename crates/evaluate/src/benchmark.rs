//! What is trained on what: the model and the corpus that hparams name.
//!
//! Names that begin with `builtin:` ship with the program and need no download; any other name is a
//! path on this machine, relative to the folder of the hparams file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crusades_core::Hparams;
use crusades_core::hparams::InitialWeights;
use crusades_corpus::{Corpus, CorpusSource, GenerateError, GeneratedSpec, LoadError, Progress};
use crusades_sandbox::Mount;
use thiserror::Error;

use crate::protocol::ModelSource;

/// The name of the model of about 10 million parameters that ships with the program.
pub const TINY_MODEL: &str = "builtin:tiny";

/// The name of the generated corpus.
pub const GENERATED_CORPUS: &str = "builtin:zipf";

const TINY_CONFIG: &str = include_str!("../models/tiny.json");

/// Rows of the generated corpus, unless `benchmark_data_samples` says otherwise.
const GENERATED_ROWS: u64 = 2048;

/// Largest `config.json`: it is sent to the worker in one frame.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Why the model or the corpus cannot be had.
#[derive(Debug, Error)]
pub enum BenchmarkError {
    /// A name is neither built in nor a path that exists.
    #[error(
        "`{key}` is \"{name}\", and there is no {path}; it must be \"{builtin}\" or a local path \
         (fetching from a hub is not supported yet: download it and name the path)"
    )]
    NotLocal {
        /// The key in the hparams.
        key: &'static str,
        /// Its value.
        name: String,
        /// The path that was looked for.
        path: PathBuf,
        /// The name that is built in.
        builtin: &'static str,
    },
    /// A file could not be read.
    #[error("{path} could not be read")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The model's folder is a file.
    #[error("`benchmark_model_name`: {0} is not a folder with a config.json")]
    NotAModelFolder(PathBuf),
    /// The config is absurdly large.
    #[error("{path} has {bytes} bytes, and at most {MAX_CONFIG_BYTES} are read")]
    ConfigSize {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The config is not a JSON object.
    #[error("{path} is not a JSON object")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why it could not be parsed.
        #[source]
        source: serde_json::Error,
    },
    /// Pretrained weights are asked for and not there.
    #[error(
        "{0} has no .safetensors file, and `initial_weights` is \"pretrained\"; set it to \
         \"random\" or name a folder with weights"
    )]
    NoWeights(PathBuf),
    /// The built-in model has no weights.
    #[error("`initial_weights` is \"pretrained\", and {TINY_MODEL} has random ones only")]
    NoBuiltinWeights,
    /// The corpus could not be generated.
    #[error("the corpus could not be generated")]
    Generate(#[source] GenerateError),
    /// The corpus could not be read.
    #[error("`benchmark_dataset_name`: the corpus could not be loaded")]
    Load(#[source] LoadError),
}

/// A model as its hparams name it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    config: serde_json::Map<String, serde_json::Value>,
    folder: Option<PathBuf>,
}

impl Model {
    /// Finds the model of `hparams`; relative paths start at `base`.
    ///
    /// # Errors
    /// [`BenchmarkError`] if it is not there or not usable.
    pub fn find(hparams: &Hparams, base: &Path) -> Result<Self, BenchmarkError> {
        let name = &hparams.benchmark_model_name;
        if name == TINY_MODEL {
            if hparams.initial_weights == InitialWeights::Pretrained {
                return Err(BenchmarkError::NoBuiltinWeights);
            }
            return Ok(Self {
                config: parse_config(TINY_CONFIG, Path::new(TINY_MODEL))?,
                folder: None,
            });
        }
        let folder = local("benchmark_model_name", name, base, TINY_MODEL)?;
        if !folder.is_dir() {
            return Err(BenchmarkError::NotAModelFolder(folder));
        }
        let config = read_config(&folder.join("config.json"))?;
        let folder = match hparams.initial_weights {
            InitialWeights::Random => None,
            InitialWeights::Pretrained => {
                let has_weights = entries(&folder)?
                    .iter()
                    .any(|entry| entry.extension().is_some_and(|kind| kind == "safetensors"));
                if !has_weights {
                    return Err(BenchmarkError::NoWeights(folder));
                }
                Some(folder)
            }
        };
        Ok(Self { config, folder })
    }

    /// What a worker is told; `seed` is for random weights.
    #[must_use]
    pub fn source(&self, seed: u64) -> ModelSource {
        match &self.folder {
            None => ModelSource::Config {
                config: self.config.clone(),
                seed,
            },
            Some(folder) => ModelSource::Folder {
                folder: folder.clone(),
            },
        }
    }

    /// What a sandbox has to show for it: the folder, and what links in it lead to (as in the
    /// cache of the Hugging Face hub).
    ///
    /// # Errors
    /// [`BenchmarkError::Read`] if the folder cannot be listed.
    pub fn mounts(&self) -> Result<Vec<Mount>, BenchmarkError> {
        let Some(folder) = &self.folder else {
            return Ok(Vec::new());
        };
        let mut mounts = vec![Mount::in_place(folder)];
        for entry in entries(folder)? {
            let target = fs::canonicalize(&entry).map_err(|source| BenchmarkError::Read {
                path: entry.clone(),
                source,
            })?;
            if target.is_file() && !target.starts_with(folder) {
                mounts.push(Mount::in_place(target));
            }
        }
        Ok(mounts)
    }

    fn vocabulary(&self) -> Option<u32> {
        u32::try_from(self.config.get("vocab_size")?.as_u64()?).ok()
    }
}

/// Loads the corpus of `hparams`; relative paths start at `base`, tokenised files are kept in
/// `cache`.
///
/// # Errors
/// [`BenchmarkError`] if it is not there or not usable.
pub fn load_corpus(
    hparams: &Hparams,
    base: &Path,
    cache: &Path,
    model: &Model,
    progress: &mut dyn FnMut(Progress),
) -> Result<Corpus, BenchmarkError> {
    let sequence_length = hparams.benchmark_sequence_length as usize;
    let name = &hparams.benchmark_dataset_name;
    if name == GENERATED_CORPUS {
        let rows = hparams.benchmark_data_samples.unwrap_or(GENERATED_ROWS);
        let standard = GeneratedSpec::default();
        let spec = GeneratedSpec {
            seed: hparams.benchmark_master_seed,
            vocabulary_size: model.vocabulary().unwrap_or(standard.vocabulary_size),
            sequence_length,
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
        };
        return crusades_corpus::generate(spec).map_err(BenchmarkError::Generate);
    }
    let path = local("benchmark_dataset_name", name, base, GENERATED_CORPUS)?;
    let tokenizer = hparams
        .benchmark_tokenizer_name
        .as_ref()
        .unwrap_or(&hparams.benchmark_model_name);
    let mut tokenizer = local("benchmark_tokenizer_name", tokenizer, base, "a folder")?;
    if tokenizer.is_dir() {
        tokenizer.push("tokenizer.json");
    }
    let max_samples = hparams
        .benchmark_data_samples
        .map(|samples| usize::try_from(samples).unwrap_or(usize::MAX));
    let source = CorpusSource {
        path,
        tokenizer,
        text_field: "text".to_owned(),
        max_samples,
        sequence_length,
    };
    crusades_corpus::load(&source, cache, progress).map_err(BenchmarkError::Load)
}

/// The path that `name` means, with its links resolved.
fn local(
    key: &'static str,
    name: &str,
    base: &Path,
    builtin: &'static str,
) -> Result<PathBuf, BenchmarkError> {
    let path = base.join(name);
    match fs::canonicalize(&path) {
        Ok(found) => Ok(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(BenchmarkError::NotLocal {
            key,
            name: name.to_owned(),
            path,
            builtin,
        }),
        Err(source) => Err(BenchmarkError::Read { path, source }),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, BenchmarkError> {
    let read = |source| BenchmarkError::Read {
        path: folder.to_owned(),
        source,
    };
    fs::read_dir(folder)
        .map_err(read)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(read))
        .collect()
}

fn read_config(path: &Path) -> Result<serde_json::Map<String, serde_json::Value>, BenchmarkError> {
    let read = |source| BenchmarkError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::metadata(path).map_err(read)?.len();
    if bytes > MAX_CONFIG_BYTES {
        return Err(BenchmarkError::ConfigSize {
            path: path.to_owned(),
            bytes,
        });
    }
    parse_config(&fs::read_to_string(path).map_err(read)?, path)
}

fn parse_config(
    text: &str,
    path: &Path,
) -> Result<serde_json::Map<String, serde_json::Value>, BenchmarkError> {
    serde_json::from_str(text).map_err(|source| BenchmarkError::Config {
        path: path.to_owned(),
        source,
    })
}
