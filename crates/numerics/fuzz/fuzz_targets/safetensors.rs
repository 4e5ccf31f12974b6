//! Any bytes are refused with a short reason, or every byte of the data belongs to exactly one
//! tensor of exactly the size that its type and shape say. The input is the size of the data, the
//! header and the data; the length of the header is put before it, so that the fuzzer need not
//! find it.
#![no_main]

use std::collections::BTreeSet;

use crusades_numerics::SafeTensors;
use libfuzzer_sys::fuzz_target;

/// An error repeats no more of a stranger's text than this allows, escaped.
const MESSAGE_BYTES_MAX: usize = 4096;

fuzz_target!(|input: (u8, &[u8])| {
    let (data_length, rest) = input;
    let header_length = rest.len().saturating_sub(usize::from(data_length));
    let mut file = (header_length as u64).to_le_bytes().to_vec();
    file.extend(rest);
    let read = match SafeTensors::read(&file) {
        Ok(read) => read,
        Err(error) => {
            assert!(error.to_string().len() < MESSAGE_BYTES_MAX);
            return;
        }
    };
    let mut place = 8 + header_length;
    let mut names = BTreeSet::new();
    for tensor in read.tensors() {
        assert!(names.insert(&tensor.name));
        let elements = tensor.shape.iter().product::<u64>();
        assert_eq!(
            elements * tensor.element_type.bits(),
            8 * tensor.bytes.len() as u64
        );
        assert_eq!(tensor.bytes.as_ptr(), file[place..].as_ptr());
        place += tensor.bytes.len();
    }
    assert_eq!(place, file.len());
});
