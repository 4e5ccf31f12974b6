//! Tokenised corpora: generated or read from local files, memory-mapped in rows.
