//! Types of a plugin, and expressions: read with libraries that may panic, which must harm nobody.

use std::str::from_utf8;
use windlass_describe::{
    component_operations,
    expression::{compile, on_large_stack, value},
    operations,
};
use windlass_types::{PluginName, shape::Operation};

/// Binary WIT or a component after its first eight bytes. What is read has a digest, and travels.
pub(crate) fn wit(bytes: &[u8]) {
    let name: PluginName = "zfs".parse().expect("a name");
    let framed = [b"\0asm\x0d\0\x01\0", bytes].concat();
    for read in [operations(&name, &framed), component_operations(&name, &framed)] {
        let Ok(read) = read else { continue };
        for operation in &read {
            let text = serde_json::to_vec(operation).expect("written");
            let back: Operation = serde_json::from_slice(&text).expect("what is written can be read");
            assert_eq!(back.signature.digest(), operation.signature.digest());
            assert_eq!(&back, operation);
        }
        assert!(read.windows(2).all(|pair| pair[0].name < pair[1].name), "sorted, each once");
    }
}

/// An expression: an answer in bounded time, whatever it is, and the same again.
pub(crate) fn expression(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let evaluated = on_large_stack(|| {
        let Ok(program) = compile(text) else { return };
        let status = serde_json::json!({ "pools": [{ "name": "tank", "size": 7, "ok": true }], "x": null });
        let mut context = cel::Context::default();
        context.add_variable_from_value("status", value(&status));
        drop(program.execute(&context));
    });
    // A panic of the interpreter is an error like others: that is what the thread is for.
    drop(evaluated);
}
