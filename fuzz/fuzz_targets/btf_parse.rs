//! A kernel's type information: no panic and no endless loop, whatever it says.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The module alone, for the agent around it takes minutes to build and has nothing to add.
#[path = "../../fim-linux-agent/src/bpf/btf.rs"]
mod btf;

/// Names that the seeds have, so that mutations of their types are reached.
const FIELDS: &[(&str, &str)] = &[("a", "b"), ("a", "c.x"), ("a", "y"), ("c", "x"), ("c", "x.x")];

fuzz_target!(|bytes: &[u8]| {
    let Ok(btf) = btf::Btf::parse(bytes.to_vec()) else { return };
    for (structure, field) in FIELDS {
        let _ = btf.offset(structure, field);
        let _ = btf.size(structure);
    }
    if let Some(prototype) = btf.function("f") {
        let position = prototype.position("b");
        assert!(position.is_none_or(|position| position < prototype.params.len()));
    }
});
