//! Binary WIT and components for tests, made from text.

use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemorySection, MemoryType, Module,
    TypeSection, ValType,
};
use windlass_types::PluginName;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{
    LiftLowerAbi, ManglingAndAbi, PackageId, Resolve, WasmExport, WasmExportKind, WorldItem,
    abi::{AbiVariant, WasmType},
};

/// A package in the place of `windlass:plan`: operations are recognised by its name.
const PLAN: &str = "package windlass:plan@0.1.0; interface types { record plan { steps: list<string> } \
     record fleet { run: string } }";

/// A plugin that shows everything there is a form for.
pub(crate) const FULL: &str = r#"
/// Pools of disks.
package windlass:zfs@0.1.0;

/// Pools.
interface pool {
  use windlass:plan/types@0.1.0.{plan, fleet};

  /// How well it is.
  enum health { /// Fine.
    online, degraded }
  /// What it can do.
  flags features { /// Writes less.
    compression, fast-dedup }
  /// A disk.
  record disk {
    /// Kernel name.
    kernel-name: string,
    size-bytes: option<u64>,
    serial: list<u8>,
  }
  type disks = list<disk>;
  /// Where it stands.
  variant place {
    nowhere,
    /// A slot in a shelf.
    slot(tuple<u8, s64>),
    bay(disk),
  }
  variant error { denied(string), other(string) }

  /// Replace a device.
  ///
  /// pool: name of the pool
  /// new-device: its successor,
  ///   by path
  ///
  /// Takes hours.
  replace: func(pool: string, new-device: disk, %place: place) -> result<disks, error>;
  status: func(all: bool) -> tuple<health, features, f32, f64, char>;
  scrub: func() -> result;
  /// Draw up a layout.
  layout: func(fleet: fleet, count: u16) -> result<plan, string>;
  forget: func(a: s8, b: s16, c: s32, d: u32, e: result<u8, error>);
}

interface other-noun { %list: func() -> list<string>; }

world plugin {
  export pool;
  export other-noun;
  export loose: func();
  export inline: interface { hidden: func(); }
}
"#;

pub(crate) fn plugin(name: &str) -> PluginName {
    name.parse().expect("a plugin name")
}

fn resolve(text: &str) -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    resolve.push_source("plan.wit", PLAN).expect("valid WIT");
    let package = resolve.push_source("test.wit", text).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    (resolve, package)
}

/// Text as a binary package.
pub(crate) fn wit(text: &str) -> Vec<u8> {
    let (resolve, package) = resolve(text);
    wit_component::encode(&resolve, package).expect("encodes")
}

/// A component with the only world of a package, whose functions trap.
pub(crate) fn component(text: &str) -> Vec<u8> {
    let (resolve, package) = resolve(text);
    let world = *resolve.packages[package].worlds.values().next().expect("a world");
    let mut types = TypeSection::new();
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    let mut exports = ExportSection::new();
    let mut add = |name: &str, params: Vec<ValType>, results: Vec<ValType>| {
        let index = types.len();
        types.ty().function(params, results);
        functions.function(index);
        let mut body = Function::new([]);
        body.instructions().unreachable().end();
        code.function(&body);
        exports.export(name, ExportKind::Func, index);
    };
    for (key, item) in &resolve.worlds[world].exports {
        let (interface, found): (_, Vec<_>) = match item {
            WorldItem::Interface { id, .. } => {
                (Some(key), resolve.interfaces[*id].functions.values().collect())
            }
            WorldItem::Function(function) => (None, vec![function]),
            WorldItem::Type { .. } => continue,
        };
        for func in found {
            let export = WasmExport::Func { interface, func, kind: WasmExportKind::Normal };
            let name = resolve.wasm_export_name(ManglingAndAbi::Legacy(LiftLowerAbi::Sync), export);
            let signature = resolve.wasm_signature(AbiVariant::GuestExport, func);
            add(
                &name,
                signature.params.iter().map(core).collect(),
                signature.results.iter().map(core).collect(),
            );
        }
    }
    add("cabi_realloc", vec![ValType::I32; 4], vec![ValType::I32]);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    exports.export("memory", ExportKind::Memory, 0);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    let mut bytes = module.finish();
    embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8).expect("embeds");
    ComponentEncoder::default().module(&bytes).expect("a module").encode().expect("a component")
}

fn core(ty: &WasmType) -> ValType {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}
