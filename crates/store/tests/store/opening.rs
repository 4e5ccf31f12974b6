//! What may be opened, and what is refused and left untouched.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crusades_store::{Store, StoreError};
use rusqlite::Connection;
use rustix::thread::CapabilitySet;

use crate::samples::{accepted, arrival};

fn error(path: &Path) -> StoreError {
    Store::open(path).unwrap_err()
}

#[test]
fn a_new_database_is_for_its_owner_only_and_so_are_its_companions() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path().join("store.db")).unwrap();
    store.record_arrival(&arrival("a", 1)).unwrap();
    let mut files = 0;
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log and the log's index");
}

#[test]
fn a_missing_folder_is_named_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = error(&missing.join("store.db"));
    assert!(matches!(&error, StoreError::MissingFolder { folder } if *folder == missing));
    assert!(error.to_string().contains("missing"));
    assert!(!missing.exists());
}

#[test]
fn a_folder_in_place_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(error(folder.path()), StoreError::NotAFile { .. }));
    assert!(matches!(
        error(Path::new("/dev/null")),
        StoreError::NotAFile { .. }
    ));
}

#[test]
fn a_file_that_is_not_sqlite_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    for content in ["hi".to_owned(), "hello\n".repeat(1000)] {
        fs::write(&path, &content).unwrap();
        assert!(matches!(error(&path), StoreError::NotADatabase { .. }));
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    // An empty file is an empty database.
    fs::write(&path, "").unwrap();
    Store::open(&path).unwrap();
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE submissions (id)")
        .unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    assert!(matches!(error(&path), StoreError::ForeignDatabase { .. }));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_one_of_this_version_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut store = Store::open(&path).unwrap();
    store.record_judgement(&accepted("a", 1, &[40.0])).unwrap();
    drop(store);
    Store::open(&path).unwrap();

    let connection = Connection::open(&path).unwrap();
    let version: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    connection
        .pragma_update(None, "user_version", version + 1)
        .unwrap();
    drop(connection);
    let error = error(&path);
    assert!(
        matches!(error, StoreError::NewerSchema { found, known, .. } if found == version + 1 && known == version),
        "{error:?}"
    );
}

#[test]
fn a_damaged_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(Store::open(&path).unwrap());
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    // Behind the file's header of 100 bytes comes the root of the schema.
    damaged[100..4096].fill(0xaa);
    fs::write(&path, damaged).unwrap();
    assert!(matches!(error(&path), StoreError::Damaged { .. }));
    fs::write(&path, whole).unwrap();
    Store::open(&path).unwrap();
}

#[test]
fn a_database_that_may_not_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("store.db");
    drop(Store::open(&path).unwrap());

    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    let refused = as_an_ordinary_user(&path);
    assert!(
        matches!(refused, Err(StoreError::ReadOnly { .. })),
        "{refused:?}"
    );

    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    as_an_ordinary_user(&path).unwrap();
}

#[test]
fn a_folder_that_may_not_be_written_is_an_error_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).unwrap();
    assert!(matches!(
        as_an_ordinary_user(&path),
        Err(StoreError::Create { .. })
    ));
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    as_an_ordinary_user(&path).unwrap();
}

/// Opens the store in a thread that permissions apply to, whoever runs the test.
fn as_an_ordinary_user(path: &Path) -> Result<Store, StoreError> {
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let mut capabilities = rustix::thread::capabilities(None).unwrap();
            capabilities.effective = CapabilitySet::empty();
            // For this thread alone.
            rustix::thread::set_capabilities(None, capabilities).unwrap();
            Store::open(path)
        });
        opening.join().unwrap()
    })
}

#[test]
fn many_that_open_a_new_database_at_once_all_succeed() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let mut store = Store::open(path).unwrap();
                    store
                        .record_arrival(&arrival(&number.to_string(), number))
                        .unwrap();
                });
            }
        });
        let store = Store::open(&path).unwrap();
        for number in 0..8 {
            assert!(store.submission(&number.to_string()).unwrap().is_some());
        }
    }
}
