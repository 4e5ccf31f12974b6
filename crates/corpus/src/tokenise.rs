//! A tokenizer from its `tokenizer.json`, as a language model is trained with it: whole documents,
//! no truncation, no padding, nothing added but the end token after each document.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer};

use crate::error::TokenizerError;

/// End tokens by the names that they have in common model families, for a tokenizer that comes
/// without a `tokenizer_config.json`. The first that the vocabulary has is taken.
const END_TOKENS: [&str; 6] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "<|im_end|>",
];

/// The files that a tokenizer is made from, as they were read.
pub(crate) struct TokenizerFiles {
    path: PathBuf,
    tokenizer: Vec<u8>,
    config_path: PathBuf,
    /// `None` where there is no such file.
    config: Option<Vec<u8>>,
}

impl TokenizerFiles {
    /// Reads `path` and, for the name of the end token, the `tokenizer_config.json` beside it.
    pub(crate) fn read(path: &Path) -> Result<Self, TokenizerError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| TokenizerError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let tokenizer = read(path)?;
        let config_path = path.with_file_name("tokenizer_config.json");
        let config = match read(&config_path) {
            Ok(config) => Some(config),
            Err(TokenizerError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            path: path.to_owned(),
            tokenizer,
            config_path,
            config,
        })
    }

    /// The bytes of the `tokenizer.json`.
    pub(crate) fn tokenizer(&self) -> &[u8] {
        &self.tokenizer
    }

    /// The bytes of the `tokenizer_config.json`, if there is one.
    pub(crate) fn config(&self) -> Option<&[u8]> {
        self.config.as_deref()
    }

    /// Makes the tokenizer, which for a vocabulary of 150,000 takes most of a second.
    pub(crate) fn parse(&self) -> Result<DocumentTokenizer, TokenizerError> {
        let invalid = |source| TokenizerError::Invalid {
            path: self.path.clone(),
            source,
        };
        let mut tokenizer = Tokenizer::from_bytes(&self.tokenizer).map_err(invalid)?;
        tokenizer.with_truncation(None).map_err(invalid)?;
        tokenizer.with_padding(None);
        disable_dropout(&mut tokenizer);
        let vocabulary_size = tokenizer
            .get_vocab(true)
            .into_values()
            .max()
            .and_then(|largest| largest.checked_add(1))
            .ok_or_else(|| TokenizerError::EmptyVocabulary(self.path.clone()))?;
        let end_token = self.end_token(&tokenizer)?;
        Ok(DocumentTokenizer {
            tokenizer,
            end_token,
            vocabulary_size,
        })
    }

    fn end_token(&self, tokenizer: &Tokenizer) -> Result<Option<u32>, TokenizerError> {
        match self.configured_end_token()? {
            EndToken::Named(token) => match tokenizer.token_to_id(&token) {
                Some(id) => Ok(Some(id)),
                None => Err(TokenizerError::UnknownEndToken {
                    path: self.config_path.clone(),
                    token,
                }),
            },
            EndToken::None => Ok(None),
            EndToken::Unknown => Ok(END_TOKENS
                .iter()
                .find_map(|token| tokenizer.token_to_id(token))),
        }
    }

    fn configured_end_token(&self) -> Result<EndToken, TokenizerError> {
        let Some(config) = &self.config else {
            return Ok(EndToken::Unknown);
        };
        let config: Value =
            serde_json::from_slice(config).map_err(|source| TokenizerError::InvalidConfig {
                path: self.config_path.clone(),
                source,
            })?;
        // Either the token itself or an object that describes it.
        Ok(match config.get("eos_token") {
            Some(Value::String(token)) => EndToken::Named(token.clone()),
            Some(Value::Null) => EndToken::None,
            Some(described) => match described.get("content") {
                Some(Value::String(token)) => EndToken::Named(token.clone()),
                _ => EndToken::Unknown,
            },
            None => EndToken::Unknown,
        })
    }
}

/// What a `tokenizer_config.json` says of the end token.
enum EndToken {
    Named(String),
    /// It says that there is none.
    None,
    /// It does not say, or there is no such file.
    Unknown,
}

/// A tokenizer that is ready for use.
pub(crate) struct DocumentTokenizer {
    tokenizer: Tokenizer,
    /// Ends each document, if there is one.
    end_token: Option<u32>,
    vocabulary_size: u32,
}

impl DocumentTokenizer {
    /// One more than the largest token.
    pub(crate) fn vocabulary_size(&self) -> u32 {
        self.vocabulary_size
    }

    /// Appends the tokens of `documents`, in order, each followed by the end token. All cores take
    /// part, a document each.
    pub(crate) fn append_tokens(
        &self,
        documents: Vec<String>,
        tokens: &mut Vec<u32>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for encoding in self.tokenizer.encode_batch_fast(documents, false)? {
            tokens.extend_from_slice(encoding.get_ids());
            tokens.extend(self.end_token);
        }
        Ok(())
    }
}

/// Dropout of merges is for training with random segmentations; here it would give other tokens
/// every time.
fn disable_dropout(tokenizer: &mut Tokenizer) {
    if let ModelWrapper::BPE(model) = tokenizer.get_model()
        && model.dropout.is_some()
    {
        let mut model = model.clone();
        model.dropout = None;
        tokenizer.with_model(model);
    }
}
