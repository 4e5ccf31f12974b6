//! Files that a stranger may write: each that is refused beside one that is not, thousands of
//! damaged ones, and the format's own implementation as the judge of what may be accepted.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on from ends it")]

use std::collections::BTreeSet;

use crusades_numerics::{
    Dtype, ElementType, HEADER_BYTES_MAX, SafeTensors, SafeTensorsError, compare_weights,
};
use proptest::collection::vec;
use proptest::prelude::*;
use safetensors::tensor::TensorView;

/// A file with this header and these data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..=250_u8).cycle().take(data));
    file
}

/// An entry of a header.
fn entry(name: &str, dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

fn header(entries: &[String]) -> String {
    format!("{{{}}}", entries.join(","))
}

/// Reads a file with these entries and this many bytes of data.
fn refusal(entries: &[String], data: usize) -> Option<SafeTensorsError> {
    SafeTensors::read(&file(&header(entries), data)).err()
}

/// What no accepted file may break.
fn assert_consistent(file: &[u8], read: &SafeTensors<'_>) {
    let mut names = BTreeSet::new();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap());
    let mut place = file[8..][usize::try_from(length).unwrap()..].as_ptr();
    for tensor in read.tensors() {
        assert!(names.insert(&tensor.name), "{} twice", tensor.name);
        let elements: u64 = tensor.shape.iter().product();
        assert_eq!(
            elements * tensor.element_type.bits(),
            8 * tensor.bytes.len() as u64
        );
        assert_eq!(tensor.bytes.as_ptr(), place, "{} is elsewhere", tensor.name);
        place = place.wrapping_add(tensor.bytes.len());
    }
    assert_eq!(place, file.as_ptr_range().end, "bytes are left");
}

/// Reads a file; what is accepted must be consistent, and the same to the format's own
/// implementation.
fn read_checked(file: &[u8]) -> Result<usize, SafeTensorsError> {
    let read = SafeTensors::read(file)?;
    assert_consistent(file, &read);
    let own = safetensors::SafeTensors::deserialize(file).unwrap();
    assert_eq!(own.len(), read.tensors().len());
    for tensor in read.tensors() {
        let expected = own.tensor(&tensor.name).unwrap();
        assert_eq!(expected.data(), tensor.bytes);
        let shape: Vec<u64> = expected.shape().iter().map(|&side| side as u64).collect();
        assert_eq!(shape, tensor.shape);
    }
    Ok(read.tensors().len())
}

/// A file as trainers write them.
fn ordinary() -> Vec<u8> {
    let entries = [
        r#""__metadata__":{"format":"pt"}"#.to_owned(),
        entry("model.embed.weight", "BF16", "[4,3]", 0, 24),
        entry("model.norm.weight", "F32", "[3]", 24, 36),
        entry("model.scale", "F16", "[]", 36, 38),
        entry("model.none", "F32", "[0,7]", 38, 38),
        entry("model.ids", "I64", "[2]", 38, 54),
    ];
    file(&format!("{}  ", header(&entries)), 54)
}

#[test]
fn an_ordinary_file_is_read() {
    let bytes = ordinary();
    assert_eq!(read_checked(&bytes), Ok(5));
    let read = SafeTensors::read(&bytes).unwrap();
    assert_eq!(read.metadata()["format"], "pt");
    let [embed, norm, scale, none, ids] = read.tensors() else {
        unreachable!("five tensors were written")
    };
    assert_eq!(embed.name, "model.embed.weight");
    assert_eq!(embed.element_type, ElementType::Compared(Dtype::BF16));
    assert_eq!(embed.shape, [4, 3]);
    assert_eq!(norm.tensor_bytes().unwrap().dtype, Dtype::F32);
    assert_eq!((scale.shape.len(), scale.bytes.len()), (0, 2));
    assert!(none.bytes.is_empty());
    assert_eq!(ids.element_type, ElementType::Other("I64"));
    assert!(ids.tensor_bytes().is_none());
}

#[test]
fn what_the_formats_own_implementation_writes_is_read_from_a_map() {
    let values: Vec<u8> = (0..24_u8).collect();
    let views = [
        (
            "b",
            TensorView::new(safetensors::Dtype::F16, vec![3, 4], &values).unwrap(),
        ),
        (
            "a",
            TensorView::new(safetensors::Dtype::F32, vec![6], &values).unwrap(),
        ),
    ];
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    // SAFETY: nothing else knows the file, so it does not change under the map.
    let map = unsafe { memmap2::Mmap::map(path.as_file()) }.unwrap();
    assert_eq!(read_checked(&map), Ok(2));
    let read = SafeTensors::read(&map).unwrap();
    let tensor = read.tensors()[0].tensor_bytes().unwrap();
    assert_eq!(read.tensors()[0].name, "a");
    assert_eq!(compare_weights(tensor, tensor, tensor).unwrap().elements, 6);
}

#[test]
fn an_empty_object_is_a_file_without_tensors() {
    assert_eq!(read_checked(&file("{}", 0)), Ok(0));
    assert_eq!(
        SafeTensors::read(&file("", 0)).unwrap_err(),
        SafeTensorsError::HeaderNotObject
    );
}

#[test]
fn a_file_cut_anywhere_is_refused_by_the_part_that_is_missing() {
    let whole = ordinary();
    let header_end = 8 + usize::from(whole[0]) + 256 * usize::from(whole[1]);
    for length in 0..whole.len() {
        let error = SafeTensors::read(&whole[..length]).unwrap_err();
        let fits = match error {
            SafeTensorsError::LengthTruncated { .. } => length < 8,
            SafeTensorsError::HeaderTruncated { .. } => (8..header_end).contains(&length),
            SafeTensorsError::OutOfRange { .. } => length >= header_end,
            _ => false,
        };
        assert!(fits, "{length} bytes: {error}");
    }
    assert!(SafeTensors::read(&whole).is_ok());
}

#[test]
fn a_header_of_the_largest_size_is_read_and_a_larger_one_is_not() {
    let length = usize::try_from(HEADER_BYTES_MAX).unwrap();
    let mut largest = HEADER_BYTES_MAX.to_le_bytes().to_vec();
    largest.extend(b"{}");
    largest.resize(8 + length, b' ');
    assert!(SafeTensors::read(&largest).unwrap().tensors().is_empty());
    for length in [HEADER_BYTES_MAX + 1, u64::MAX] {
        let mut larger = largest[..10].to_vec();
        larger[..8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(
            SafeTensors::read(&larger).unwrap_err(),
            SafeTensorsError::HeaderTooLarge { length }
        );
    }
}

#[test]
fn a_header_that_is_no_text_or_no_json_is_refused_with_the_place() {
    let good = format!("{{{}}}", entry("é", "F32", "[1]", 0, 4));
    assert_eq!(read_checked(&file(&good, 4)), Ok(1));
    let mut broken = file(&good, 4);
    broken[8 + 3] = 0xff;
    assert_eq!(
        SafeTensors::read(&broken).unwrap_err(),
        SafeTensorsError::HeaderNotUtf8 { valid_up_to: 2 }
    );
    for (header, expected) in [
        ("[]", SafeTensorsError::HeaderNotObject),
        (" {}", SafeTensorsError::HeaderNotObject),
        ("{", SafeTensorsError::HeaderNotJson { line: 1, column: 1 }),
        (
            "{}x",
            SafeTensorsError::HeaderNotJson { line: 1, column: 3 },
        ),
        (
            "{\n\"a\":}",
            SafeTensorsError::HeaderNotJson { line: 2, column: 5 },
        ),
    ] {
        assert_eq!(SafeTensors::read(&file(header, 0)).unwrap_err(), expected);
    }
}

#[test]
fn an_entry_of_another_form_is_refused() {
    let form = |value: &str| {
        let header = format!(r#"{{"a":{value}}}"#);
        match SafeTensors::read(&file(&header, 4)) {
            Ok(_) => true,
            Err(SafeTensorsError::EntryForm { line: 1, .. }) => false,
            Err(other) => unreachable!("{value}: {other}"),
        }
    };
    assert!(form(r#"{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}"#));
    for value in [
        "null",
        "7",
        "[]",
        r#"{"shape":[1],"data_offsets":[0,4]}"#,
        r#"{"dtype":7,"shape":[1],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[1]}"#,
        r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[1],"data_offsets":4}"#,
        r#"["F32",[1],[0,4]]"#,
        r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}"#,
        r#"{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}"#,
    ] {
        assert!(!form(value), "{value}");
    }
    assert!(SafeTensors::read(&file(r#"{"__metadata__":{"a":"b"}}"#, 0)).is_ok());
    for metadata in ["7", "null", r#"{"a":7}"#] {
        let file = file(&format!(r#"{{"__metadata__":{metadata}}}"#), 0);
        let error = SafeTensors::read(&file).unwrap_err();
        assert!(
            matches!(error, SafeTensorsError::EntryForm { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_key_that_is_there_twice_is_refused_which_the_formats_own_implementation_accepts() {
    let twice = [
        entry("a", "F32", "[1]", 0, 4),
        entry("b", "F32", "[1]", 4, 8),
        entry("a", "F32", "[1]", 0, 4),
    ];
    assert_eq!(refusal(&twice[..2], 8), None);
    assert_eq!(
        refusal(&twice, 8).unwrap().to_string(),
        r#"the header has the key "a" twice"#
    );
    assert!(safetensors::SafeTensors::deserialize(&file(&header(&twice), 8)).is_ok());
    // An escape is another spelling of the same key.
    let escaped = [
        entry("a", "F32", "[1]", 0, 4),
        entry("\\u0061", "F32", "[0]", 4, 4),
    ];
    assert!(matches!(
        refusal(&escaped, 4),
        Some(SafeTensorsError::DuplicateKey { .. })
    ));
    for metadata in [
        r#"{"__metadata__":{"x":"1","x":"2"}}"#,
        r#"{"__metadata__":{"x":"1"},"__metadata__":{}}"#,
    ] {
        assert!(matches!(
            SafeTensors::read(&file(metadata, 0)),
            Err(SafeTensorsError::DuplicateKey { .. })
        ));
    }
}

#[test]
fn every_type_of_the_format_is_known_and_no_other() {
    for (name, bytes_of_eight) in [
        ("F32", 32),
        ("BF16", 16),
        ("F16", 16),
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
    ] {
        let entries = [entry("a", name, "[8]", 0, bytes_of_eight)];
        let length = usize::try_from(bytes_of_eight).unwrap();
        assert_eq!(
            read_checked(&file(&header(&entries), length)),
            Ok(1),
            "{name}"
        );
    }
    assert_eq!(
        refusal(&[entry("a", "f32", "[1]", 0, 4)], 4)
            .unwrap()
            .to_string(),
        r#"tensor "a" has the unknown type "f32""#
    );
}

#[test]
fn half_a_byte_is_refused_and_two_halves_are_not() {
    assert_eq!(refusal(&[entry("a", "F4", "[2]", 0, 1)], 1), None);
    assert_eq!(
        refusal(&[entry("a", "F4", "[3]", 0, 1)], 1)
            .unwrap()
            .to_string(),
        r#"tensor "a" has 12 bits, which is not a whole number of bytes"#
    );
}

#[test]
fn a_size_that_cannot_be_counted_is_refused() {
    for shape in [
        "[18446744073709551615]",
        "[4294967296,4294967296]",
        "[576460752303423488]",
    ] {
        assert_eq!(
            refusal(&[entry("a", "F32", shape, 0, 4)], 4)
                .unwrap()
                .to_string(),
            r#"the size of tensor "a" overflows"#
        );
    }
    assert_eq!(refusal(&[entry("a", "F32", "[1,1,1,1]", 0, 4)], 4), None);
}

#[test]
fn gigantic_tensors_are_refused_by_what_the_file_has() {
    let gigantic = [entry(
        "a",
        "F32",
        "[576460752303423487]",
        0,
        2_305_843_009_213_693_948,
    )];
    assert_eq!(
        refusal(&gigantic, 4).unwrap().to_string(),
        r#"the data of tensor "a" end at 2305843009213693948, but the file has 4 bytes of data"#
    );
    let beyond = [entry("a", "F32", "[1]", u64::MAX - 4, u64::MAX)];
    assert!(matches!(
        refusal(&beyond, 4),
        Some(SafeTensorsError::OutOfRange { .. })
    ));
}

#[test]
fn offsets_other_than_two_are_refused() {
    for (offsets, count) in [("[]", 0), ("[4]", 1), ("[0,4,4]", 3)] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":{offsets}}}}}"#);
        assert_eq!(
            SafeTensors::read(&file(&header, 4))
                .unwrap_err()
                .to_string(),
            format!(r#"tensor "a" has {count} data offsets instead of 2"#)
        );
    }
    assert_eq!(refusal(&[entry("a", "F32", "[1]", 0, 4)], 4), None);
}

#[test]
fn reversed_offsets_are_refused_and_equal_ones_are_an_empty_tensor() {
    let other = entry("b", "F32", "[1]", 0, 4);
    assert_eq!(
        refusal(&[other.clone(), entry("a", "F32", "[0]", 4, 4)], 4),
        None
    );
    assert_eq!(
        refusal(&[other, entry("a", "F32", "[0]", 4, 3)], 4)
            .unwrap()
            .to_string(),
        r#"the data of tensor "a" end at 3, before they begin at 4"#
    );
}

#[test]
fn a_size_other_than_type_and_shape_say_is_refused() {
    assert_eq!(refusal(&[entry("a", "BF16", "[2,3]", 0, 12)], 12), None);
    for (dtype, shape, expected) in [
        ("F32", "[2,3]", 24),
        ("BF16", "[2,2]", 8),
        ("BF16", "[]", 2),
    ] {
        assert_eq!(
            refusal(&[entry("a", dtype, shape, 0, 12)], 12),
            Some(SafeTensorsError::SizeMismatch {
                name: r#""a""#.to_owned(),
                found: 12,
                expected,
            })
        );
    }
}

#[test]
fn overlapping_tensors_are_refused_and_touching_ones_in_any_order_are_not() {
    let of = |name: &str, start, end| entry(name, "U8", &format!("[{}]", end - start), start, end);
    assert_eq!(refusal(&[of("b", 4, 8), of("a", 0, 4)], 8), None);
    for entries in [
        [of("a", 0, 5), of("b", 4, 8)],
        [of("a", 0, 8), of("b", 2, 6)],
        [of("a", 0, 8), of("b", 0, 8)],
        [of("a", 0, 8), of("b", 4, 4)],
    ] {
        let error = refusal(&entries, 8).unwrap();
        assert!(
            matches!(&error, SafeTensorsError::Overlap { name, other, .. }
                if name == r#""b""# && other == r#""a""#),
            "{error}"
        );
    }
}

#[test]
fn bytes_that_belong_to_no_tensor_are_refused_wherever_they_are() {
    let of = |name: &str, start, end| entry(name, "U8", &format!("[{}]", end - start), start, end);
    assert_eq!(refusal(&[of("a", 0, 4), of("b", 4, 8)], 8), None);
    for entries in [
        [of("a", 1, 4), of("b", 4, 8)],
        [of("a", 0, 4), of("b", 5, 8)],
    ] {
        let error = refusal(&entries, 8).unwrap();
        assert!(matches!(error, SafeTensorsError::Hole { .. }), "{error}");
    }
    assert_eq!(
        refusal(&[of("a", 0, 4), of("b", 4, 8)], 9)
            .unwrap()
            .to_string(),
        "the last tensor ends at 8, but the file has 9 bytes of data"
    );
    assert!(matches!(
        SafeTensors::read(&file("{}", 1)),
        Err(SafeTensorsError::TrailingBytes { .. })
    ));
}

#[test]
fn a_strangers_text_is_shortened_and_escaped_in_an_error() {
    let name = format!("\\u001b[31m{}", "x".repeat(100_000));
    let error = refusal(&[entry(&name, "nonsense\\n", "[1]", 0, 4)], 4).unwrap();
    let message = error.to_string();
    assert!(message.len() < 300, "{}", message.len());
    assert!(!message.contains(['\u{1b}', '\n']), "{message}");
    let unknown = format!(r#"{{"a":{{"{}":1}}}}"#, "y".repeat(100_000));
    let error = SafeTensors::read(&file(&unknown, 0)).unwrap_err();
    assert!(error.to_string().len() < 100);
}

#[test]
fn a_deeply_nested_header_is_refused() {
    let nested = format!("{{\"a\":{}", "[".repeat(1_000_000));
    assert!(SafeTensors::read(&file(&nested, 0)).is_err());
}

/// Pieces of headers that matter.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "\"",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "0",
            "1",
            "-",
            "9",
            "\\u0000",
            "null",
            "true",
            "\"dtype\":\"F32\"",
            "\"dtype\":\"F4\"",
            "\"shape\":[]",
            "\"shape\":[0]",
            "\"data_offsets\":[0,0]",
            "\"data_offsets\":[0,24]",
            "18446744073709551615",
            "18446744073709551616",
            "1e3",
            "\"__metadata__\":{}",
            "\"model.scale\":",
            "F64",
            "BF16",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn a_damaged_file_is_refused_or_consistent(
        changes in vec((any::<prop::sample::Index>(), 0_usize..8, piece()), 1..5),
        length_follows in prop::bool::weighted(0.9),
    ) {
        let mut file = ordinary();
        let mut header = u64::from_le_bytes(file[..8].try_into().unwrap());
        for (place, removed, inserted) in changes {
            let limit = usize::try_from(header).unwrap();
            let start = 8 + place.index(limit + 1);
            let end = (start + removed).min(8 + limit);
            header = header + inserted.len() as u64 - (end - start) as u64;
            file.splice(start..end, inserted);
        }
        if length_follows {
            file[..8].copy_from_slice(&header.to_le_bytes());
        }
        let _ = read_checked(&file);
    }

    #[test]
    fn a_file_whose_numbers_are_changed_is_refused_or_consistent(
        numbers in vec(prop_oneof![0_u64..40, Just(u64::MAX), any::<u64>()], 9),
        dtypes in vec(prop::sample::select(vec!["F32", "BF16", "U8", "F4", "I64"]), 3),
        data in 0_usize..60,
    ) {
        let entries: Vec<String> = (0..3)
            .map(|index| {
                let shape = format!("[{}]", numbers[3 * index]);
                let name = format!("t{index}");
                entry(&name, dtypes[index], &shape, numbers[3 * index + 1], numbers[3 * index + 2])
            })
            .collect();
        let _ = read_checked(&file(&header(&entries), data));
    }

    #[test]
    fn any_partition_of_the_data_in_any_order_is_accepted(
        parts in vec((0_u64..9, prop::sample::select(vec![("F32", 4), ("BF16", 2), ("U8", 1)])), 0..8),
        order in any::<prop::sample::Index>(),
    ) {
        let mut start = 0;
        let mut entries: Vec<String> = parts
            .iter()
            .enumerate()
            .map(|(index, (elements, (dtype, size)))| {
                let end = start + elements * size;
                let name = format!("t{index}");
                let entry = entry(&name, dtype, &format!("[{elements},1]"), start, end);
                start = end;
                entry
            })
            .collect();
        if !entries.is_empty() {
            let turn = order.index(entries.len());
            entries.rotate_left(turn);
        }
        let length = usize::try_from(start).unwrap();
        prop_assert_eq!(read_checked(&file(&header(&entries), length)), Ok(parts.len()));
    }

    #[test]
    fn any_bytes_are_refused_or_consistent(bytes in vec(any::<u8>(), 0..64)) {
        let _ = read_checked(&bytes);
    }
}
