//! Small bundles that pass every check.

use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemorySection, MemoryType, Module,
    TypeSection, ValType,
};
use windlass_bundle::{
    Bundle, Package, Statement,
    signature::{SecretKey, Signature},
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A bundle to make: `thing.count` of some plugin.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub plugin: &'static str,
    pub version: &'static str,
    /// What it asks for beyond its operation, in the words of a manifest.
    pub more: &'static str,
    /// `u32` or `u64`.
    pub returns: &'static str,
}

impl Spec {
    pub fn demo(version: &'static str) -> Self {
        Spec { plugin: "demo", version, more: "", returns: "u64" }
    }

    pub fn bundle(&self) -> Bundle {
        let text = format!(
            "package windlass:{0}@0.1.0;\n/// Things.\ninterface thing {{\n  /// Count them.\n  count: func() -> {1};\n}}\n\
             world plugin {{ export thing; }}\n",
            self.plugin, self.returns
        );
        let mut resolve = Resolve::default();
        let package = resolve.push_source("test.wit", &text).unwrap();
        let wit = wit_component::encode(&resolve, package).unwrap();
        let world = *resolve.packages[package].worlds.values().next().unwrap();
        let result = if self.returns == "u64" { ValType::I64 } else { ValType::I32 };
        let mut types = TypeSection::new();
        types.ty().function([], [result]);
        types.ty().function([ValType::I32; 4], [ValType::I32]);
        let mut functions = FunctionSection::new();
        functions.function(0).function(1);
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut exports = ExportSection::new();
        exports.export(&format!("windlass:{}/thing@0.1.0#count", self.plugin), ExportKind::Func, 0);
        exports.export("cabi_realloc", ExportKind::Func, 1);
        exports.export("memory", ExportKind::Memory, 0);
        let mut code = CodeSection::new();
        for _ in 0..2 {
            let mut body = Function::new([]);
            body.instructions().unreachable().end();
            code.function(&body);
        }
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
        let mut bytes = module.finish();
        embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8).unwrap();
        let component = ComponentEncoder::default().module(&bytes).unwrap().encode().unwrap();
        let manifest = format!(
            "name = \"{}\"\nversion = \"{}\"\n{}\n[operations.\"thing.count\"]\neffect = \"read\"\n",
            self.plugin, self.version, self.more
        );
        Bundle::from_parts(manifest.into_bytes(), component, wit).unwrap()
    }

    /// Without signatures.
    pub fn package(&self) -> Package {
        Package::new(self.bundle(), Vec::new()).unwrap()
    }
}

/// A key that signs.
pub(crate) struct Key(SecretKey);

impl Key {
    pub fn new() -> Self {
        Key(SecretKey::generate())
    }
    pub fn sign(&self, bundle: &Bundle, signed_ms: i64) -> Signature {
        self.0.sign(Statement {
            plugin: bundle.manifest.name.clone(),
            version: bundle.manifest.version,
            digest: bundle.digest,
            signed_ms,
            expires_ms: None,
        })
    }
}
