//! Loading local files, with real tokenizers and real Parquet files.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on from ends it")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crusades_corpus::{Corpus, CorpusSource, LoadError, Progress, load};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::whitespace::Whitespace;
use tokenizers::{AddedToken, ModelWrapper, Tokenizer, TruncationParams};

const END: u32 = 11;

/// A folder with a tokenizer that knows the words `zero` to `nine` as 0 to 9, and all others as 10.
struct Workspace {
    folder: TempDir,
    tokenizer: PathBuf,
}

impl Workspace {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let tokenizer = folder.path().join("tokenizer.json");
        number_tokenizer().save(&tokenizer, false).unwrap();
        Self { folder, tokenizer }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache").join("corpora")
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn source(&self, path: PathBuf) -> CorpusSource {
        CorpusSource {
            path,
            tokenizer: self.tokenizer.clone(),
            text_field: "text".to_owned(),
            max_samples: None,
            sequence_length: 4,
        }
    }

    fn load(&self, source: &CorpusSource) -> Result<Corpus, LoadError> {
        load(source, &self.cache(), &mut |_| {})
    }

    /// The rows of the file at `path`.
    fn rows(&self, path: PathBuf) -> Vec<Vec<u32>> {
        rows(&self.load(&self.source(path)).unwrap())
    }

    /// The error for the file at `path`, as a user sees it, with the folder cut from it.
    fn error(&self, path: PathBuf) -> String {
        self.message(&self.load(&self.source(path)).unwrap_err())
    }

    fn message(&self, error: &LoadError) -> String {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        let folder = format!("{}/", self.folder.path().display());
        message.replace(&folder, "")
    }

    fn cache_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.cache()) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn rows(corpus: &Corpus) -> Vec<Vec<u32>> {
    (0..corpus.rows())
        .map(|row| corpus.row(row).to_vec())
        .collect()
}

fn number_tokenizer() -> Tokenizer {
    let words = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "other",
    ];
    let vocabulary = (0..).zip(words).map(|(id, word)| (word.to_owned(), id));
    let model = WordLevel::builder()
        .vocab(vocabulary.collect())
        .unk_token("other".to_owned())
        .build()
        .unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(Whitespace));
    tokenizer
        .add_special_tokens([AddedToken::from("<|endoftext|>", true)])
        .unwrap();
    tokenizer
}

/// A byte-level BPE as that of GPT-2 and Qwen, trained on `text`.
fn byte_level_tokenizer(text: &str) -> Tokenizer {
    let mut tokenizer = Tokenizer::new(ModelWrapper::BPE(BPE::default()));
    tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let mut trainer = TrainerWrapper::BpeTrainer(
        BpeTrainer::builder()
            .vocab_size(400)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(vec![AddedToken::from("<|endoftext|>", true)])
            .build(),
    );
    tokenizer.train(&mut trainer, text.lines()).unwrap();
    tokenizer
}

/// Writes one row group for each of `groups`, with an integer column `id` before the text.
fn write_parquet(path: &Path, column: &str, compression: Compression, groups: &[&[Option<&str>]]) {
    let schema = format!("message table {{ required int64 id; {column}; }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let optional = column.starts_with("optional");
    for group in groups {
        let mut row_group = writer.next_row_group().unwrap();
        let mut ids = row_group.next_column().unwrap().unwrap();
        let numbers: Vec<i64> = (0..).take(group.len()).collect();
        ids.typed::<Int64Type>()
            .write_batch(&numbers, None, None)
            .unwrap();
        ids.close().unwrap();
        let mut texts = row_group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = group.iter().flatten().map(|&text| text.into()).collect();
        let levels: Vec<i16> = group.iter().map(|text| i16::from(text.is_some())).collect();
        texts
            .typed::<ByteArrayType>()
            .write_batch(&values, optional.then_some(&levels[..]), None)
            .unwrap();
        texts.close().unwrap();
        row_group.close().unwrap();
    }
    writer.close().unwrap();
}

const TEXT_COLUMN: &str = "optional binary text (STRING)";

#[test]
fn text_is_cut_in_documents_at_blank_lines_and_in_rows_across_them() {
    let workspace = Workspace::new();
    let path = workspace.file(
        "a.txt",
        "\n\none two\nthree\n  \n\nfour\n\nfive six seven\n",
    );
    assert_eq!(
        workspace.rows(path),
        [[1, 2, 3, END], [4, END, 5, 6]],
        "the last tokens make no whole row"
    );
}

#[test]
fn a_byte_order_mark_and_windows_line_breaks_are_no_part_of_the_text() {
    let workspace = Workspace::new();
    let plain = workspace.file("a.txt", "one two\nthree\n\nfour five six\n");
    let other = workspace.file("b.TXT", "\u{feff}one two\r\nthree\r\n\r\nfour five six\r\n");
    assert_eq!(workspace.rows(plain), workspace.rows(other));
}

#[test]
fn json_lines_give_the_field_and_skip_null_and_blank_text() {
    let workspace = Workspace::new();
    let lines = concat!(
        "{\"id\": 1, \"text\": \"one two\\nthree\"}\n",
        "\n",
        "{\"text\": null}\n",
        "{\"text\": \" \\n \"}\n",
        "{\"text\": \"four five\"}\n",
        "{\"text\": \"six\"}",
    );
    for name in ["a.jsonl", "a.json"] {
        let path = workspace.file(name, lines);
        assert_eq!(workspace.rows(path), [[1, 2, 3, END], [4, 5, END, 6]]);
    }
}

#[test]
fn parquet_gives_the_column_over_all_row_groups_whatever_the_compression() {
    let workspace = Workspace::new();
    let many: Vec<Option<&str>> = vec![Some("one two three"); 1000];
    for (name, compression) in [
        ("plain.parquet", Compression::UNCOMPRESSED),
        ("snappy.parquet", Compression::SNAPPY),
        ("gzip.parquet", Compression::GZIP(Default::default())),
        ("zstd.parquet", Compression::ZSTD(Default::default())),
    ] {
        let path = workspace.folder.path().join(name);
        let groups = [
            &[None, Some("four five six"), None, Some(" ")][..],
            &[],
            &many,
        ];
        write_parquet(&path, TEXT_COLUMN, compression, &groups);
        let rows = workspace.rows(path);
        assert_eq!(rows.len(), 1001, "{name}");
        assert_eq!(rows[0], [4, 5, 6, END]);
        assert!(rows[1..].iter().all(|row| row == &[1, 2, 3, END]));
    }
}

#[test]
fn a_required_binary_column_that_holds_text_is_text() {
    let workspace = Workspace::new();
    let path = workspace.folder.path().join("a.parquet");
    let texts = [Some("one two"), Some("three four five")];
    write_parquet(
        &path,
        "required binary text",
        Compression::SNAPPY,
        &[&texts],
    );
    assert_eq!(workspace.rows(path), [[1, 2, END, 3]]);
}

#[test]
fn another_field_can_be_named() {
    let workspace = Workspace::new();
    let path = workspace.file(
        "a.jsonl",
        "{\"text\": \"one\", \"body\": \"two three four\"}\n",
    );
    let source = CorpusSource {
        text_field: "body".to_owned(),
        ..workspace.source(path)
    };
    assert_eq!(rows(&workspace.load(&source).unwrap()), [[2, 3, 4, END]]);
}

#[test]
fn only_so_many_documents_are_read_as_asked_for() {
    let workspace = Workspace::new();
    let path = workspace.file("a.txt", "one two three\n\n".repeat(10));
    let with = |max_samples| {
        let source = CorpusSource {
            max_samples,
            ..workspace.source(path.clone())
        };
        workspace.load(&source).map(|corpus| corpus.rows())
    };
    assert_eq!(with(Some(1)).unwrap(), 1);
    assert_eq!(with(Some(7)).unwrap(), 7);
    assert_eq!(with(Some(99)).unwrap(), 10);
    assert_eq!(with(None).unwrap(), 10);
    assert_eq!(
        with(Some(0)).unwrap_err().to_string(),
        "the number of documents to read must be at least 1"
    );
}

#[test]
fn a_byte_level_tokenizer_gives_tokens_that_decode_to_the_text() {
    let workspace = Workspace::new();
    let paragraph = "The crown passes to whoever trains faster; naïve cheats don't count — 12 %!\n";
    let documents: Vec<String> = (0..500).map(|n| format!("{n}: {paragraph}")).collect();
    let tokenizer = byte_level_tokenizer(&documents.concat());
    let tokenizer_path = workspace.folder.path().join("bpe.json");
    tokenizer.save(&tokenizer_path, false).unwrap();
    let source = CorpusSource {
        tokenizer: tokenizer_path,
        sequence_length: 32,
        ..workspace.source(workspace.file("a.txt", documents.join("\n")))
    };
    let corpus = workspace.load(&source).unwrap();
    assert_eq!(corpus.vocabulary_size(), 400);
    let text = tokenizer.decode(&rows(&corpus).concat(), true).unwrap();
    let expected: String = documents
        .iter()
        .map(|document| document.trim_end())
        .collect();
    assert!(text.len() > expected.len() - 200);
    assert!(expected.starts_with(&text));
}

#[test]
fn truncation_and_dropout_in_the_tokenizer_file_are_not_for_corpora() {
    let workspace = Workspace::new();
    let text = "one two three four five six seven eight nine\n\n".repeat(20);
    let path = workspace.file("a.txt", &text);

    let mut truncating = number_tokenizer();
    truncating
        .with_truncation(Some(TruncationParams {
            max_length: 2,
            ..TruncationParams::default()
        }))
        .unwrap();
    let whole = workspace.load(&workspace.source(path.clone())).unwrap();
    truncating.save(&workspace.tokenizer, false).unwrap();
    let truncated = workspace.load(&workspace.source(path.clone())).unwrap();
    assert_eq!(whole.digest(), truncated.digest());

    let steady = byte_level_tokenizer(&text);
    let mut dropping = steady.clone();
    if let ModelWrapper::BPE(model) = steady.get_model() {
        let mut model = model.clone();
        model.dropout = Some(0.5);
        dropping.with_model(model);
    }
    let digests = [steady, dropping].map(|tokenizer| {
        tokenizer.save(&workspace.tokenizer, false).unwrap();
        let corpus = workspace.load(&workspace.source(path.clone())).unwrap();
        corpus.digest()
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn the_end_token_is_the_one_that_the_configuration_names() {
    let workspace = Workspace::new();
    let path = workspace.file("a.txt", "one two three\n\nfour five six");
    let with = |config: &str| {
        workspace.file("tokenizer_config.json", config);
        workspace
            .load(&workspace.source(path.clone()))
            .map(|corpus| corpus.row(0)[3])
            .map_err(|error| workspace.message(&error))
    };
    assert_eq!(with("{\"eos_token\": \"nine\"}"), Ok(9));
    assert_eq!(with("{\"eos_token\": {\"content\": \"eight\"}}"), Ok(8));
    assert_eq!(with("{\"eos_token\": null}"), Ok(4));
    assert_eq!(with("{}"), Ok(END));
    assert_eq!(
        with("{\"eos_token\": \"ten\"}").unwrap_err(),
        "tokenizer_config.json names the end token \"ten\", which is not in the vocabulary"
    );
    assert_eq!(
        with("{").unwrap_err(),
        "tokenizer_config.json is not a valid tokenizer_config.json: \
         EOF while parsing an object at line 1 column 1"
    );
}

#[test]
fn a_second_load_maps_the_cache_file_and_does_not_tokenise() {
    let workspace = Workspace::new();
    let source = workspace.source(workspace.file("a.txt", "one two three\n\n".repeat(5000)));
    let steps = |source: &CorpusSource| {
        let mut hashed = 0;
        let mut shares = Vec::new();
        let corpus = load(source, &workspace.cache(), &mut |step| match step {
            Progress::Hashing { bytes, total_bytes } => {
                assert!(bytes <= total_bytes);
                hashed = bytes;
            }
            Progress::Tokenising { share, .. } => shares.push(share),
            Progress::CacheDiscarded { reason } => panic!("{reason}"),
        })
        .unwrap();
        assert_eq!(hashed, fs::metadata(&source.path).unwrap().len());
        (corpus, shares)
    };
    let (first, shares) = steps(&source);
    assert_eq!(shares.last(), Some(&1.0));
    assert!(shares.is_sorted());
    let (second, shares) = steps(&source);
    assert!(shares.is_empty());
    assert_eq!(first.digest(), second.digest());
    assert_eq!(rows(&first), rows(&second));
    assert_eq!(second.rows(), 5000);
    assert_eq!(second.vocabulary_size(), 12);
    assert_eq!(workspace.cache_files().len(), 1);
}

#[test]
fn whatever_the_tokens_follow_from_makes_another_cache_file() {
    let workspace = Workspace::new();
    let text = "one two three\n\n".repeat(10);
    let base = workspace.source(workspace.file("a.txt", &text));
    workspace.load(&base).unwrap();

    let renamed = workspace.source(workspace.file("b.txt", &text));
    workspace.load(&renamed).unwrap();
    assert_eq!(workspace.cache_files().len(), 1, "the name is of no matter");

    let shorter_rows = CorpusSource {
        sequence_length: 3,
        ..base.clone()
    };
    workspace.load(&shorter_rows).unwrap();
    let fewer = CorpusSource {
        max_samples: Some(5),
        ..base.clone()
    };
    workspace.load(&fewer).unwrap();
    workspace.file("a.txt", text.replace("three", "four"));
    workspace.load(&base).unwrap();
    workspace.file("tokenizer_config.json", "{\"eos_token\": \"nine\"}");
    workspace.load(&base).unwrap();
    assert_eq!(workspace.cache_files().len(), 5);
}

#[test]
fn a_damaged_or_foreign_cache_file_is_made_anew() {
    let workspace = Workspace::new();
    let source = workspace.source(workspace.file("a.txt", "one two three\n\n".repeat(100)));
    let digest = workspace.load(&source).unwrap().digest();
    let [cache_file] = &workspace.cache_files()[..] else {
        panic!("one cache file")
    };
    let whole = fs::read(cache_file).unwrap();
    assert_eq!(whole.len(), 128 + 100 * 4 * 4);

    let changed = |offset: usize| {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1;
        bytes
    };
    let mut longer = whole.clone();
    longer.extend([0; 16]);
    for (content, expected) in [
        (Vec::new(), "it is shorter than its header"),
        (whole[..127].to_vec(), "it is shorter than its header"),
        (
            whole[..1000].to_vec(),
            "its length is not what its header says",
        ),
        (longer, "its length is not what its header says"),
        (
            b"something else".repeat(100),
            "it is not a corpus cache file",
        ),
        (changed(16), "it has another format version"),
        (changed(20), "its tokens do not have its digest"),
        (changed(31), "its length is not what its header says"),
        (changed(40), "it was made from something else"),
        (changed(72), "its tokens do not have its digest"),
        (
            changed(whole.len() - 1),
            "its tokens do not have its digest",
        ),
    ] {
        fs::write(cache_file, content).unwrap();
        let mut reasons = Vec::new();
        let mut progress = |step| {
            if let Progress::CacheDiscarded { reason } = step {
                reasons.push(reason);
            }
        };
        let corpus = load(&source, &workspace.cache(), &mut progress).unwrap();
        assert_eq!(corpus.digest(), digest);
        assert_eq!(reasons, [expected]);
        assert_eq!(fs::read(cache_file).unwrap(), whole);
        assert_eq!(workspace.cache_files().len(), 1);
    }
}

#[test]
fn a_corpus_in_use_outlives_its_cache_file() {
    let workspace = Workspace::new();
    let source = workspace.source(workspace.file("a.txt", "one two three\n"));
    let corpus = workspace.load(&source).unwrap();
    for cache_file in workspace.cache_files() {
        fs::remove_file(cache_file).unwrap();
    }
    assert_eq!(corpus.row(0), [1, 2, 3, END]);
}

#[test]
fn a_path_that_is_no_readable_file_is_named_with_the_reason() {
    let workspace = Workspace::new();
    let at = |name: &str| workspace.folder.path().join(name);
    assert_eq!(workspace.error(at("no.txt")), "no.txt does not exist");

    fs::create_dir(at("folder.txt")).unwrap();
    assert_eq!(
        workspace.error(at("folder.txt")),
        "folder.txt is a folder; give one file in it \
         (.txt, .jsonl, .json (one object per line) and .parquet)"
    );
    assert_eq!(
        workspace.error(PathBuf::from("/dev/null")),
        "/dev/null is not an ordinary file"
    );
    assert_eq!(
        workspace.error(workspace.file("a.csv", "text")),
        "a.csv is of an unsupported kind; \
         supported are .txt, .jsonl, .json (one object per line) and .parquet"
    );
    assert_eq!(
        workspace.error(workspace.file("a.txt", "")),
        "a.txt is empty"
    );

    std::os::unix::fs::symlink("loop.txt", at("loop.txt")).unwrap();
    assert_eq!(
        workspace.error(at("loop.txt")),
        "cannot read loop.txt: Too many levels of symbolic links (os error 40)"
    );
    let target = workspace.file("b.txt", "one two three");
    std::os::unix::fs::symlink(target, at("link.txt")).unwrap();
    assert_eq!(workspace.rows(at("link.txt")).len(), 1);
    assert_eq!(workspace.cache_files().len(), 1);
}

#[test]
fn text_that_is_not_utf8_is_named_by_its_byte() {
    let workspace = Workspace::new();
    let latin1 = workspace.file("a.txt", b"one two\nthr\xe9e\n");
    assert_eq!(workspace.error(latin1), "a.txt is not UTF-8 at byte 11");
    let latin1 = workspace.file("a.jsonl", b"{\"text\": \"\xe9\"}\n");
    assert_eq!(workspace.error(latin1), "a.jsonl is not UTF-8 at byte 10");
    let utf8 = workspace.file("b.txt", "one two\nthrée\n");
    assert_eq!(workspace.rows(utf8), [[1, 2, 10, END]]);
}

#[test]
fn a_line_that_does_not_give_text_is_named_by_its_number() {
    let workspace = Workspace::new();
    for (line, expected) in [
        (
            "{\"text\": }",
            "line 3 of a.jsonl is not valid JSON by itself (column 10: expected value)",
        ),
        (
            "[\"one\"]",
            "line 3 of a.jsonl is an array, not a JSON object",
        ),
        (
            "{\"body\": \"one\", \"id\": 1}",
            "line 3 of a.jsonl has no field \"text\", only \"body\", \"id\"",
        ),
        (
            "{}",
            "line 3 of a.jsonl has no field \"text\", only nothing",
        ),
        (
            "{\"text\": [\"one\"]}",
            "field \"text\" in line 3 of a.jsonl is an array, not a string",
        ),
    ] {
        let path = workspace.file("a.jsonl", format!("{{\"text\": \"one\"}}\n\n{line}\n"));
        assert_eq!(workspace.error(path), expected);
    }
    assert!(
        workspace.cache_files().is_empty(),
        "an error leaves nothing"
    );
}

#[test]
fn a_line_that_would_fill_the_memory_is_refused() {
    let workspace = Workspace::new();
    let line = vec![b'x'; (64 << 20) + 1];
    assert_eq!(
        workspace.error(workspace.file("a.txt", line)),
        "line 1 of a.txt makes a document of more than 67108864 bytes"
    );
}

#[test]
fn a_column_that_does_not_give_text_is_named_with_those_there_are() {
    let workspace = Workspace::new();
    let path = workspace.folder.path().join("a.parquet");
    write_parquet(
        &path,
        TEXT_COLUMN,
        Compression::SNAPPY,
        &[&[Some("one two three")]],
    );
    let error = |column: &str| {
        let source = CorpusSource {
            text_field: column.to_owned(),
            ..workspace.source(path.clone())
        };
        workspace.message(&workspace.load(&source).unwrap_err())
    };
    assert_eq!(
        error("body"),
        "a.parquet has no column \"body\", only \"id\", \"text\""
    );
    assert_eq!(
        error("id"),
        "column \"id\" of a.parquet is of type INT64, not a column of strings"
    );
    assert_eq!(workspace.rows(path), [[1, 2, 3, END]]);
}

#[test]
fn a_list_and_a_group_are_no_columns_of_strings() {
    let workspace = Workspace::new();
    for (schema, expected) in [
        ("repeated binary text (STRING);", "a list"),
        (
            "optional group text { required binary a (STRING); }",
            "nested",
        ),
    ] {
        let path = workspace.folder.path().join("a.parquet");
        let schema = parse_message_type(&format!("message table {{ {schema} }}")).unwrap();
        let file = fs::File::create(&path).unwrap();
        SerializedFileWriter::new(file, Arc::new(schema), Arc::default())
            .unwrap()
            .close()
            .unwrap();
        assert_eq!(
            workspace.error(path),
            format!("column \"text\" of a.parquet is {expected}, not a column of strings")
        );
    }
}

#[test]
fn a_parquet_file_that_is_cut_off_or_is_none_is_refused() {
    let workspace = Workspace::new();
    let path = workspace.folder.path().join("whole.parquet");
    let texts = vec![Some("one two three"); 100];
    write_parquet(&path, TEXT_COLUMN, Compression::SNAPPY, &[&texts]);
    let whole = fs::read(&path).unwrap();
    for content in [&whole[..whole.len() / 2], b"one two three", b"PAR1"] {
        let message = workspace.error(workspace.file("a.parquet", content));
        assert!(
            message.starts_with("cannot read a.parquet as Parquet: "),
            "{message}"
        );
    }
    assert_eq!(workspace.rows(path).len(), 100);
}

#[test]
fn a_tokenizer_that_is_none_is_refused() {
    let workspace = Workspace::new();
    let text = workspace.file("a.txt", "one two three");
    let error = |tokenizer: PathBuf| {
        let source = CorpusSource {
            tokenizer,
            ..workspace.source(text.clone())
        };
        workspace.message(&workspace.load(&source).unwrap_err())
    };
    assert_eq!(
        error(workspace.folder.path().join("no.json")),
        "cannot read the tokenizer file no.json: No such file or directory (os error 2)"
    );
    for content in [
        "",
        "{}",
        "not json",
        "{\"version\": \"1.0\", \"model\": {}}",
    ] {
        let message = error(workspace.file("bad.json", content));
        assert!(
            message.starts_with("bad.json is not a valid tokenizer.json: "),
            "{message}"
        );
    }
    let empty = Tokenizer::new(ModelWrapper::BPE(BPE::default()));
    let path = workspace.folder.path().join("empty.json");
    empty.save(&path, false).unwrap();
    assert_eq!(
        error(path),
        "the tokenizer empty.json has an empty vocabulary"
    );
    assert_eq!(workspace.rows(text).len(), 1);
}

#[test]
fn text_for_less_than_one_row_is_refused_with_its_size() {
    let workspace = Workspace::new();
    let exactly_one = workspace.file("b.txt", "one\n\ntwo\n");
    assert_eq!(workspace.rows(exactly_one), [[1, END, 2, END]]);
    fs::remove_dir_all(workspace.cache()).unwrap();
    assert_eq!(
        workspace.error(workspace.file("a.txt", "one two\n")),
        "a.txt has 3 tokens in 1 documents, fewer than one row of 4"
    );
    assert_eq!(
        workspace.error(workspace.file("a.txt", " \n\n")),
        "a.txt has 0 tokens in 0 documents, fewer than one row of 4"
    );
    assert!(
        workspace.cache_files().is_empty(),
        "an error leaves nothing"
    );
}

#[test]
fn a_row_of_one_token_is_refused_and_one_of_two_is_not() {
    let workspace = Workspace::new();
    let path = workspace.file("a.txt", "one two three");
    let with = |sequence_length| {
        let source = CorpusSource {
            sequence_length,
            ..workspace.source(path.clone())
        };
        workspace
            .load(&source)
            .map(|corpus| corpus.rows())
            .map_err(|error| error.to_string())
    };
    assert_eq!(with(2), Ok(2));
    assert_eq!(
        with(1).unwrap_err(),
        "a row must have at least 2 tokens, not 1"
    );
}

#[test]
fn a_cache_folder_that_cannot_be_made_is_named() {
    let workspace = Workspace::new();
    let source = workspace.source(workspace.file("a.txt", "one two three"));
    let blocked = workspace.file("blocked", "a file").join("cache");
    let error = load(&source, &blocked, &mut |_| {}).unwrap_err();
    assert_eq!(
        workspace.message(&error),
        "cannot make the cache folder blocked/cache: Not a directory (os error 20)"
    );
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_refused() {
    let workspace = Workspace::new();
    let source = workspace.source(workspace.file("a.txt", "one two three\n"));
    let mut append_once_hashed = |step| {
        if let Progress::Hashing { .. } = step {
            fs::write(&source.path, "one two three\n\nfour five six\n").unwrap();
        }
    };
    let error = load(&source, &workspace.cache(), &mut append_once_hashed).unwrap_err();
    assert_eq!(
        workspace.message(&error),
        "a.txt was changed while it was read"
    );
    assert!(
        workspace.cache_files().is_empty(),
        "an error leaves nothing"
    );
    assert_eq!(workspace.load(&source).unwrap().rows(), 2);
}
