//! Reading a safetensors file that a stranger wrote.
//!
//! A file is the length of the header (8 bytes, little-endian), the header (a JSON object with the
//! type, shape and place of every tensor) and the data. Nothing of it is believed: either every
//! byte of the data belongs to exactly one tensor of exactly its size, or the file is refused with
//! the reason. The data are never read here, only cut, so a mapped file costs nothing but its header.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use thiserror::Error;

use crate::tensor::{Dtype, TensorBytes};

/// The longest header that is read: what the format's own implementation allows
/// (`MAX_HEADER_SIZE` in the crate `safetensors`). Parsed it takes a few times as much memory.
pub const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Bytes that hold the length of the header.
const LENGTH_BYTES: usize = 8;

/// The key of the header that is no tensor.
const METADATA_KEY: &str = "__metadata__";

/// Characters of a stranger's text that an error repeats.
const SHOWN_CHARACTERS: usize = 80;

/// Name and bits of each type that this crate does not compare.
const OTHER_TYPES: [(&str, u64); 19] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("I32", 32),
    ("U32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// The tensors of a file, which stay in the bytes that it was read from.
#[derive(Clone, Debug)]
pub struct SafeTensors<'a> {
    /// In the order of their data.
    tensors: Vec<StoredTensor<'a>>,
    metadata: BTreeMap<String, String>,
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor<'a> {
    /// Its name in the header.
    pub name: String,
    /// Its element type.
    pub element_type: ElementType,
    /// Its sides. Without any it has one element; with one that is 0 it has none.
    pub shape: Vec<u64>,
    /// Its elements, of any alignment.
    pub bytes: &'a [u8],
}

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// One that this crate compares.
    Compared(Dtype),
    /// Another one of the format, by its name there.
    Other(&'static str),
}

/// Why a file is refused. What it says of a name or a type is shortened and escaped, because a
/// stranger chose it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SafeTensorsError {
    /// The file ends within the length of its header.
    #[error("the file has {length} bytes, too few for the length of a header")]
    LengthTruncated {
        /// Bytes of the file.
        length: usize,
    },
    /// The header is longer than [`HEADER_BYTES_MAX`].
    #[error(
        "the header is said to have {length} bytes, more than {}",
        HEADER_BYTES_MAX
    )]
    HeaderTooLarge {
        /// Its length as the file gives it.
        length: u64,
    },
    /// The file ends within its header.
    #[error("the header is said to have {length} bytes, but the file has {available} for it")]
    HeaderTruncated {
        /// Its length as the file gives it.
        length: u64,
        /// Bytes after the length.
        available: usize,
    },
    /// The header is not text.
    #[error("the header is not UTF-8 from its byte {valid_up_to} on")]
    HeaderNotUtf8 {
        /// How many bytes of it are.
        valid_up_to: usize,
    },
    /// The header does not begin with `{`, as the format demands.
    #[error("the header does not begin with an opening brace")]
    HeaderNotObject,
    /// The header is not JSON. The parser's own words are left out here and below, for they
    /// repeat whatever the file has without an end.
    #[error("the header is not JSON at line {line} column {column}")]
    HeaderNotJson {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// A value of the header has a wrong type, is missing, unknown or twice within its entry.
    #[error("an entry of the header has a wrong form at line {line} column {column}")]
    EntryForm {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// Two entries have one name.
    #[error("the header has the key {name} twice")]
    DuplicateKey {
        /// Which.
        name: String,
    },
    /// The format has no such type.
    #[error("tensor {name} has the unknown type {element_type}")]
    UnknownType {
        /// Which tensor.
        name: String,
        /// What it says.
        element_type: String,
    },
    /// The shape has more elements or bytes than can be counted.
    #[error("the size of tensor {name} overflows")]
    SizeOverflow {
        /// Which tensor.
        name: String,
    },
    /// The elements of a type smaller than a byte do not fill their last byte.
    #[error("tensor {name} has {bits} bits, which is not a whole number of bytes")]
    PartialByte {
        /// Which tensor.
        name: String,
        /// Its size by type and shape.
        bits: u64,
    },
    /// The data have more or fewer than a beginning and an end.
    #[error("tensor {name} has {count} data offsets instead of 2")]
    OffsetCount {
        /// Which tensor.
        name: String,
        /// How many it has.
        count: usize,
    },
    /// The data end before they begin.
    #[error("the data of tensor {name} end at {end}, before they begin at {start}")]
    OffsetsReversed {
        /// Which tensor.
        name: String,
        /// Where its data begin.
        start: u64,
        /// Where they end.
        end: u64,
    },
    /// The data reach past the end of the file.
    #[error("the data of tensor {name} end at {end}, but the file has {available} bytes of data")]
    OutOfRange {
        /// Which tensor.
        name: String,
        /// Where its data end.
        end: u64,
        /// Bytes after the header.
        available: usize,
    },
    /// The data have another size than type and shape say.
    #[error("tensor {name} has {found} bytes of data, but its type and shape take {expected}")]
    SizeMismatch {
        /// Which tensor.
        name: String,
        /// Bytes of data.
        found: u64,
        /// Bytes by type and shape.
        expected: u64,
    },
    /// Two tensors share bytes.
    #[error("the data of tensor {name} begin at {start}, within those of tensor {other}")]
    Overlap {
        /// Which tensor.
        name: String,
        /// Where its data begin.
        start: u64,
        /// The tensor whose data they are in.
        other: String,
    },
    /// Bytes before a tensor belong to none.
    #[error("the data of tensor {name} begin at {start}, but those before them end at {end}")]
    Hole {
        /// Which tensor.
        name: String,
        /// Where its data begin.
        start: u64,
        /// Where the data before them end.
        end: u64,
    },
    /// Bytes after the last tensor belong to none.
    #[error("the last tensor ends at {end}, but the file has {available} bytes of data")]
    TrailingBytes {
        /// Where the last data end.
        end: u64,
        /// Bytes after the header.
        available: usize,
    },
}

impl<'a> SafeTensors<'a> {
    /// Reads the header of `file`, the whole file, and cuts its data.
    ///
    /// # Errors
    ///
    /// When the file is not exactly what the format allows. Two rules of the format that its own
    /// implementation does not enforce are enforced here: no key twice, and no keys in an entry
    /// but the three it has.
    pub fn read(file: &'a [u8]) -> Result<Self, SafeTensorsError> {
        let (header, data) = split(file)?;
        let Header { tensors, metadata } = parse(header)?;
        let mut placed = Vec::with_capacity(tensors.len());
        for (name, entry) in tensors {
            placed.push(place(name, entry, data)?);
        }
        placed.sort_by_key(|(start, tensor)| (*start, tensor.bytes.len()));
        check_that_all_is_covered(&placed, data)?;
        Ok(Self {
            tensors: placed.into_iter().map(|(_, tensor)| tensor).collect(),
            metadata,
        })
    }

    /// All tensors, in the order of their data.
    #[must_use]
    pub fn tensors(&self) -> &[StoredTensor<'a>] {
        &self.tensors
    }

    /// The texts that the file carries about itself.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

impl<'a> StoredTensor<'a> {
    /// The tensor as this crate compares it, if it compares its type.
    #[must_use]
    pub fn tensor_bytes(&self) -> Option<TensorBytes<'a>> {
        match self.element_type {
            ElementType::Compared(dtype) => Some(TensorBytes {
                dtype,
                bytes: self.bytes,
            }),
            ElementType::Other(_) => None,
        }
    }
}

impl ElementType {
    /// The type of this name in the format.
    fn of(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::Compared(Dtype::F32)),
            "BF16" => Some(Self::Compared(Dtype::BF16)),
            "F16" => Some(Self::Compared(Dtype::F16)),
            _ => OTHER_TYPES
                .iter()
                .find(|(other, _)| *other == name)
                .map(|(other, _)| Self::Other(other)),
        }
    }

    /// Bits that one element takes.
    #[must_use]
    pub fn bits(self) -> u64 {
        match self {
            Self::Compared(dtype) => 8 * dtype.size_in_bytes() as u64,
            Self::Other(name) => OTHER_TYPES
                .iter()
                .find(|(other, _)| *other == name)
                .map_or(8, |(_, bits)| *bits),
        }
    }
}

/// The header's text and the data.
fn split(file: &[u8]) -> Result<(&str, &[u8]), SafeTensorsError> {
    let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(SafeTensorsError::LengthTruncated { length: file.len() });
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_BYTES_MAX {
        return Err(SafeTensorsError::HeaderTooLarge { length });
    }
    let (header, data) = usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(SafeTensorsError::HeaderTruncated {
            length,
            available: rest.len(),
        })?;
    let header = std::str::from_utf8(header).map_err(|error| SafeTensorsError::HeaderNotUtf8 {
        valid_up_to: error.valid_up_to(),
    })?;
    Ok((header, data))
}

/// What the header says.
struct Header {
    tensors: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

/// What the header says of one tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: Vec<u64>,
}

/// An entry that is a JSON object; by itself serde would take an array for one too.
struct ObjectEntry(Entry);

/// The header as a JSON object: in order and with every duplicate, which a map would hide.
struct HeaderEntries(Vec<(String, HeaderValue)>);

/// The value of any key of the header.
enum HeaderValue {
    Metadata(Texts),
    Tensor(ObjectEntry),
}

/// The value of the key that is no tensor, in the same way.
struct Texts(Vec<(String, String)>);

fn parse(header: &str) -> Result<Header, SafeTensorsError> {
    if !header.starts_with('{') {
        return Err(SafeTensorsError::HeaderNotObject);
    }
    let HeaderEntries(entries) = serde_json::from_str(header).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            Category::Data => SafeTensorsError::EntryForm { line, column },
            Category::Syntax | Category::Eof | Category::Io => {
                SafeTensorsError::HeaderNotJson { line, column }
            }
        }
    })?;
    refuse_duplicates(&entries)?;
    let mut tensors = Vec::with_capacity(entries.len());
    let mut metadata = BTreeMap::new();
    for (name, value) in entries {
        match value {
            HeaderValue::Tensor(ObjectEntry(entry)) => tensors.push((name, entry)),
            HeaderValue::Metadata(Texts(texts)) => {
                refuse_duplicates(&texts)?;
                metadata = texts.into_iter().collect();
            }
        }
    }
    Ok(Header { tensors, metadata })
}

fn refuse_duplicates<T>(entries: &[(String, T)]) -> Result<(), SafeTensorsError> {
    let mut seen = HashSet::with_capacity(entries.len());
    for (name, _) in entries {
        if !seen.insert(name) {
            return Err(SafeTensorsError::DuplicateKey { name: shown(name) });
        }
    }
    Ok(())
}

/// Cuts a tensor out of the data; gives also where it begins.
fn place(
    name: String,
    entry: Entry,
    data: &[u8],
) -> Result<(u64, StoredTensor<'_>), SafeTensorsError> {
    let Some(element_type) = ElementType::of(&entry.dtype) else {
        return Err(SafeTensorsError::UnknownType {
            name: shown(&name),
            element_type: shown(&entry.dtype),
        });
    };
    let bits = entry
        .shape
        .iter()
        .try_fold(element_type.bits(), |bits, side| bits.checked_mul(*side))
        .ok_or_else(|| SafeTensorsError::SizeOverflow { name: shown(&name) })?;
    if !bits.is_multiple_of(8) {
        return Err(SafeTensorsError::PartialByte {
            name: shown(&name),
            bits,
        });
    }
    let &[start, end] = entry.data_offsets.as_slice() else {
        return Err(SafeTensorsError::OffsetCount {
            name: shown(&name),
            count: entry.data_offsets.len(),
        });
    };
    if start > end {
        return Err(SafeTensorsError::OffsetsReversed {
            name: shown(&name),
            start,
            end,
        });
    }
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let Some(bytes) = range.and_then(|(start, end)| data.get(start..end)) else {
        return Err(SafeTensorsError::OutOfRange {
            name: shown(&name),
            end,
            available: data.len(),
        });
    };
    if end - start != bits / 8 {
        return Err(SafeTensorsError::SizeMismatch {
            name: shown(&name),
            found: end - start,
            expected: bits / 8,
        });
    }
    let tensor = StoredTensor {
        name,
        element_type,
        shape: entry.shape,
        bytes,
    };
    Ok((start, tensor))
}

/// Whether the tensors, ordered by where they begin, follow each other from the first byte of the
/// data to the last.
fn check_that_all_is_covered(
    placed: &[(u64, StoredTensor<'_>)],
    data: &[u8],
) -> Result<(), SafeTensorsError> {
    let mut covered = 0;
    let mut before = None;
    for (start, tensor) in placed {
        if *start > covered {
            return Err(SafeTensorsError::Hole {
                name: shown(&tensor.name),
                start: *start,
                end: covered,
            });
        }
        if *start < covered {
            return Err(SafeTensorsError::Overlap {
                name: shown(&tensor.name),
                start: *start,
                other: before.map_or_else(String::new, shown),
            });
        }
        covered += tensor.bytes.len() as u64;
        before = Some(&tensor.name);
    }
    if covered < data.len() as u64 {
        return Err(SafeTensorsError::TrailingBytes {
            end: covered,
            available: data.len(),
        });
    }
    Ok(())
}

/// A stranger's text as an error shows it.
fn shown(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

impl<'de> Deserialize<'de> for HeaderEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = HeaderEntries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a header")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderEntries, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = if key == METADATA_KEY {
                        HeaderValue::Metadata(map.next_value()?)
                    } else {
                        HeaderValue::Tensor(map.next_value()?)
                    };
                    entries.push((key, value));
                }
                Ok(HeaderEntries(entries))
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}

impl<'de> Deserialize<'de> for ObjectEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = ObjectEntry;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("type, shape and place of a tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ObjectEntry, A::Error> {
                Entry::deserialize(MapAccessDeserializer::new(map)).map(ObjectEntry)
            }
        }

        deserializer.deserialize_map(EntryVisitor)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;

        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("texts by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Texts(entries))
            }
        }

        deserializer.deserialize_map(TextsVisitor)
    }
}
