//! Small plugins, made of WIT and a few instructions, and signatures over them.

use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemorySection, MemoryType,
    Module, TypeSection, ValType,
};
use windlass_bundle::{
    Approval, Bundle, Statement, capabilities,
    signature::{SecretKey, Signature},
};
use windlass_proto::v1;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What `op.answer` does. `op.good` gives 1, and `op.spin` computes until it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    Answer(i32),
    Trap,
    /// Not even an instance can be made.
    BreakAtOnce,
    /// Making an instance comes to no end.
    SpinAtOnce,
}

/// A bundle of a plugin with the operations `op.answer`, `op.good` and `op.spin`.
pub fn plugin(name: &str, version: &str, does: Does) -> Bundle {
    plugin_with(name, version, does, "", 0)
}

/// The same with more in its manifest, and a component that is larger by so many bytes.
pub fn plugin_with(name: &str, version: &str, does: Does, manifest: &str, padding: usize) -> Bundle {
    let text = format!(
        "package windlass:{name}@{version};
         interface op {{ answer: func() -> u32; good: func() -> u32; spin: func(); }}
         world plugin {{ export op; }}"
    );
    let mut resolve = Resolve::default();
    let package = resolve.push_source("plugin.wit", &text).unwrap();
    let world = resolve.packages[package].worlds["plugin"];
    let mut module = core(&format!("windlass:{name}/op@{version}"), does);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let mut component = ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
    pad(&mut component, padding);
    let wit = wit_component::encode(&resolve, package).unwrap();
    let manifest = format!(
        "name = \"{name}\"\nversion = \"{version}\"\ndescription = \"For tests.\"\n{manifest}\n\
         [operations.\"op.answer\"]\neffect = \"read\"\n[operations.\"op.good\"]\neffect = \"read\"\n\
         [operations.\"op.spin\"]\neffect = \"change\"\ntimeout = \"60s\"\n"
    );
    Bundle::from_parts(manifest.into_bytes(), component, wit).unwrap()
}

fn core(interface: &str, does: Does) -> Vec<u8> {
    let (mut types, mut functions, mut code) =
        (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    let mut exports = ExportSection::new();
    types.ty().function([], [ValType::I32]);
    types.ty().function([], []);
    let mut add = |name: &str, ty: u32, body: &dyn Fn(&mut Function)| {
        let index = functions.len();
        functions.function(ty);
        let mut function = Function::new([]);
        body(&mut function);
        function.instructions().end();
        code.function(&function);
        exports.export(name, ExportKind::Func, index);
    };
    add(&format!("{interface}#answer"), 0, &|body| match does {
        Does::Answer(number) => _ = body.instructions().i32_const(number),
        Does::Trap | Does::BreakAtOnce | Does::SpinAtOnce => _ = body.instructions().unreachable(),
    });
    add(&format!("{interface}#good"), 0, &|body| _ = body.instructions().i32_const(1));
    let spin = |body: &mut Function| _ = body.instructions().loop_(BlockType::Empty).br(0).end();
    add(&format!("{interface}#spin"), 1, &spin);
    match does {
        Does::BreakAtOnce => add("_initialize", 1, &|body| _ = body.instructions().unreachable()),
        Does::SpinAtOnce => add("_initialize", 1, &spin),
        Does::Answer(_) | Does::Trap => {}
    }
    let mut memories = MemorySection::new();
    let minimum = 1;
    memories.memory(MemoryType {
        minimum,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    exports.export("memory", ExportKind::Memory, 0);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    module.finish()
}

/// Make a component larger by a custom section that does not compress.
fn pad(component: &mut Vec<u8>, bytes: usize) {
    if bytes == 0 {
        return;
    }
    let mut content = b"\x03pad".to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    content.extend((0..bytes).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    }));
    component.push(0);
    let mut length = content.len();
    while length >= 0x80 {
        component.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    component.push(u8::try_from(length).unwrap());
    component.extend(content);
}

/// An approval of all that it asks for.
pub fn approval(bundle: &Bundle) -> Approval {
    Approval::all_of(capabilities(&bundle.manifest, ["op.answer", "op.good", "op.spin"]))
}

/// A key, and what it signs.
pub struct Signer(pub SecretKey);

impl Signer {
    pub fn new() -> Self {
        Signer(SecretKey::generate())
    }

    /// A line for the trust file: this key by a name.
    pub fn key(&self, name: &str) -> String {
        format!("[keys.{name}]\npublic = \"{}\"\n", self.0.public())
    }

    pub fn sign(&self, bundle: &Bundle) -> Signature {
        self.sign_until(bundle, None)
    }

    pub fn sign_until(&self, bundle: &Bundle, expires_ms: Option<i64>) -> Signature {
        self.0.sign(Statement {
            plugin: bundle.manifest.name.clone(),
            version: bundle.manifest.version,
            digest: bundle.digest,
            signed_ms: windlass_host::journal::now_ms(),
            expires_ms,
        })
    }
}

/// What a master says to have a bundle installed.
pub fn wanted(bundle: &Bundle, deployment: &str, signatures: &[Signature]) -> v1::DesiredPlugin {
    v1::DesiredPlugin {
        name: bundle.manifest.name.to_string(),
        version: bundle.manifest.version.to_string(),
        digest: bundle.digest.to_string(),
        signatures: signatures.iter().map(|signature| signature.to_json().into()).collect(),
        approval_json: serde_json::to_vec(&approval(bundle)).unwrap().into(),
        deployment: deployment.into(),
        allow_downgrade: false,
    }
}
