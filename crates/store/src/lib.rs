//! What is kept: submissions, evaluations and checks in SQLite.
