//! Parquet: one column of strings at the top level of the table, of which each value is a document.
//!
//! Only that column is read. Values of a binary column are taken too if they are UTF-8, because
//! some writers leave out that they are text.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::Type as PhysicalType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use super::{Documents, MAX_DOCUMENT_BYTES};
use crate::error::DocumentError;

/// Rows taken from the file at a time.
const BATCH_ROWS: usize = 256;

pub(super) struct ParquetDocuments {
    path: PathBuf,
    column: String,
    column_index: usize,
    /// Whether the column may hold nulls, which then have a definition level of 0.
    optional: bool,
    file: SerializedFileReader<File>,
    row_groups_opened: usize,
    values_of_group: Option<ColumnReaderImpl<ByteArrayType>>,
    /// Values that were read from the file but not given yet; `None` is a null.
    pending: VecDeque<Option<ByteArray>>,
    rows_given: u64,
    /// As the file says; only for the share read.
    rows: u64,
}

impl ParquetDocuments {
    pub(super) fn open(path: &Path, file: File, column: &str) -> Result<Self, DocumentError> {
        let file = SerializedFileReader::new(file).map_err(|source| DocumentError::Parquet {
            path: path.to_owned(),
            source,
        })?;
        let metadata = file.metadata().file_metadata();
        let (column_index, optional) = find_text_column(path, metadata.schema_descr(), column)?;
        let rows = metadata.num_rows().try_into().unwrap_or(0);
        Ok(Self {
            path: path.to_owned(),
            column: column.to_owned(),
            column_index,
            optional,
            file,
            row_groups_opened: 0,
            values_of_group: None,
            pending: VecDeque::new(),
            rows_given: 0,
            rows,
        })
    }

    /// Fills `pending`; returns whether there was anything left.
    fn read_batch(&mut self) -> Result<bool, ParquetError> {
        loop {
            if let Some(reader) = &mut self.values_of_group {
                let mut values = Vec::new();
                let mut levels = Vec::new();
                let (rows, _, _) = reader.read_records(
                    BATCH_ROWS,
                    self.optional.then_some(&mut levels),
                    None,
                    &mut values,
                )?;
                if rows > 0 {
                    if self.optional {
                        let mut values = values.into_iter();
                        self.pending.extend(
                            levels
                                .into_iter()
                                .map(|level| if level > 0 { values.next() } else { None }),
                        );
                    } else {
                        self.pending.extend(values.into_iter().map(Some));
                    }
                    return Ok(true);
                }
            }
            if self.row_groups_opened == self.file.num_row_groups() {
                return Ok(false);
            }
            let group = self.file.get_row_group(self.row_groups_opened)?;
            self.row_groups_opened += 1;
            match group.get_column_reader(self.column_index)? {
                ColumnReader::ByteArrayColumnReader(reader) => self.values_of_group = Some(reader),
                _ => {
                    return Err(ParquetError::General(
                        "a row group has another column type than the table".to_owned(),
                    ));
                }
            }
        }
    }
}

impl Documents for ParquetDocuments {
    fn next_document(&mut self) -> Result<Option<String>, DocumentError> {
        loop {
            let Some(value) = self.pending.pop_front() else {
                let more = self.read_batch().map_err(|source| DocumentError::Parquet {
                    path: self.path.clone(),
                    source,
                })?;
                if more {
                    continue;
                }
                return Ok(None);
            };
            self.rows_given += 1;
            let Some(value) = value else { continue };
            if value.len() > MAX_DOCUMENT_BYTES {
                return Err(DocumentError::ValueTooLong {
                    path: self.path.clone(),
                    column: self.column.clone(),
                    row: self.rows_given,
                    limit: MAX_DOCUMENT_BYTES,
                });
            }
            let text = str::from_utf8(value.data()).map_err(|_| DocumentError::ValueNotUtf8 {
                path: self.path.clone(),
                column: self.column.clone(),
                row: self.rows_given,
            })?;
            if !text.trim().is_empty() {
                return Ok(Some(text.to_owned()));
            }
        }
    }

    fn share_read(&self) -> f64 {
        if self.rows == 0 {
            1.0
        } else {
            (self.rows_given as f64 / self.rows as f64).min(1.0)
        }
    }
}

/// The index of the column among the leaves of the schema, and whether it may hold nulls.
fn find_text_column(
    path: &Path,
    schema: &SchemaDescriptor,
    column: &str,
) -> Result<(usize, bool), DocumentError> {
    let not_text = |found| DocumentError::ColumnNotText {
        path: path.to_owned(),
        column: column.to_owned(),
        found,
    };
    let fields = schema.root_schema().get_fields();
    let Some(field) = fields.iter().find(|field| field.name() == column) else {
        return Err(DocumentError::NoColumn {
            path: path.to_owned(),
            column: column.to_owned(),
            found: fields.iter().map(|field| field.name().to_owned()).collect(),
        });
    };
    if field.is_group() {
        return Err(not_text("nested".to_owned()));
    }
    let leaf = schema
        .columns()
        .iter()
        .position(|leaf| leaf.path().parts() == [column])
        .ok_or_else(|| not_text("nested".to_owned()))?;
    let descriptor = schema.column(leaf);
    if descriptor.max_rep_level() > 0 {
        return Err(not_text("a list".to_owned()));
    }
    match descriptor.physical_type() {
        PhysicalType::BYTE_ARRAY => Ok((leaf, descriptor.max_def_level() > 0)),
        other => Err(not_text(format!("of type {other}"))),
    }
}
