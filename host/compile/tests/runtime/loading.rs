//! What makes a plugin unusable is told when it is loaded, with the function by name.
//!
//! The components are made from WIT alone: they have the types, and trap when called.

use crate::world::{World, bundle, compiled, json_of};
use serde_json::{Value, json};
use std::path::Path;
use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    InstructionSink, MemorySection, MemoryType, Module, TypeSection, ValType,
};
use windlass_bundle::{Bundle, NodePolicy};
use windlass_runtime::LoadError;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{
    LiftLowerAbi, ManglingAndAbi, Resolve, WasmExport, WasmExportKind, WorldId, WorldItem, WorldKey,
    abi::{AbiVariant, WasmType},
};

/// What the module does while it is instantiated.
pub type Initialize<'a> = &'a dyn Fn(&mut InstructionSink<'_>);

/// A core module for a world: its exports trap.
fn core_module(resolve: &Resolve, world: WorldId, initialize: Option<Initialize<'_>>) -> Vec<u8> {
    let (mut types, mut functions, mut code) =
        (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    let (mut imports, mut exports) = (ImportSection::new(), ExportSection::new());
    let mut imported = 0;
    for (key, item) in &resolve.worlds[world].imports {
        let (WorldKey::Interface(id), WorldItem::Interface { .. }) = (key, item) else { continue };
        for (name, function) in &resolve.interfaces[*id].functions {
            let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
            let core = |types: &[WasmType]| types.iter().map(core_type).collect::<Vec<_>>();
            types.ty().function(core(&signature.params), core(&signature.results));
            imports.import(&resolve.id_of(*id).unwrap(), name, EntityType::Function(imported));
            imported += 1;
        }
    }
    let traps: Initialize<'_> = &|body| _ = body.unreachable();
    let mut add = |name: &str, params: Vec<ValType>, results: Vec<ValType>, does: Initialize<'_>| {
        let index = functions.len();
        types.ty().function(params, results);
        functions.function(imported + index);
        let mut body = Function::new([]);
        does(&mut body.instructions());
        body.instructions().end();
        code.function(&body);
        exports.export(name, ExportKind::Func, imported + index);
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
            let core = |types: &[WasmType]| types.iter().map(core_type).collect();
            add(&name, core(&signature.params), core(&signature.results), traps);
        }
    }
    // Each text it is given lies at the same place: nobody looks at two.
    add("cabi_realloc", vec![ValType::I32; 4], vec![ValType::I32], &|body| _ = body.i32_const(2048));
    if let Some(initialize) = initialize {
        add("_initialize", vec![], vec![], initialize);
    }
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
    module.section(&types).section(&imports).section(&functions).section(&memories);
    module.section(&exports).section(&code);
    module.finish()
}

fn core_type(ty: &WasmType) -> ValType {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}

/// A bundle of a plugin `sample` with these interfaces.
fn sample(interfaces: &str, world: &str) -> Bundle {
    initialized(interfaces, world, None, "")
}

/// The same, with something to do while it is instantiated and more in its manifest.
pub fn initialized(
    interfaces: &str,
    world: &str,
    initialize: Option<Initialize<'_>>,
    manifest: &str,
) -> Bundle {
    let mut resolve = Resolve::default();
    for text in [
        "package windlass:plan@0.1.0; interface types { record plan { steps: list<string> } }".to_owned(),
        "package windlass:host@0.9.0; interface teleport { beam-up: func(); }".to_owned(),
        "package other:sample@0.1.0; interface thing { get: func(); }".to_owned(),
    ] {
        resolve.push_source("dependency.wit", &text).unwrap();
    }
    resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/host")).unwrap();
    let text = format!("package windlass:sample@0.1.0;\n{interfaces}\nworld plugin {{ {world} }}");
    let package =
        resolve.push_source("sample.wit", &text).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    let world = resolve.packages[package].worlds["plugin"];
    let mut module = core_module(&resolve, world, initialize);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let component = ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
    let manifest = format!("name = \"sample\"\nversion = \"0.1.0\"\n{manifest}");
    Bundle::from_parts(manifest.into(), component, bundle("monitor").wit).unwrap()
}

async fn load(bundle: &Bundle) -> Result<(), LoadError> {
    let world = World::new().await;
    let compiled = compiled(bundle).await;
    world.runtime.load(bundle, &compiled, &NodePolicy::default(), None, Value::Null).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn types_without_a_form_in_json_name_their_function() {
    for (ty, what) in [
        ("option<option<u8>>", "option"),
        ("list<option<option<string>>>", "option"),
        ("tuple<u8, handle>", "resource"),
    ] {
        let resource = if what == "resource" { "resource handle;" } else { "" };
        let interface = format!("interface noun {{ {resource} verb: func(first-thing: {ty}); }}");
        let error = load(&sample(&interface, "export noun;")).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, LoadError::Unsupported { .. }) && text.contains(what), "{text}");
        if what == "option" {
            assert!(text.contains("noun.verb") && text.contains("`first-thing`"), "{text}");
        }
    }
    let method = "interface noun { resource handle { look: func(); } }";
    let error = load(&sample(method, "export noun;")).await.unwrap_err().to_string();
    assert!(error.contains("noun."), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_needs_another_host_is_refused() {
    let interface = "interface noun { verb: func(); }";
    let error =
        load(&sample(interface, "import windlass:host/teleport@0.9.0; export noun;")).await.unwrap_err();
    assert!(matches!(error, LoadError::Imports(_)), "{error}");
    assert!(error.to_string().contains("teleport"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_own_package_has_operations() {
    let interface = "interface noun { verb: func(); }";
    let world = World::of(
        &sample(interface, "export noun; export loose: func(); export inside: interface { hidden: func(); }"),
        &NodePolicy::default(),
    )
    .await;
    assert_eq!(world.plugin.operations().keys().collect::<Vec<_>>(), ["noun.verb"]);
    // Made of nothing, it traps; and an operation the manifest does not mention may destroy.
    assert_eq!(json_of(&world.call("noun.verb", json!({})).await)["reason"], "crash");
    assert_eq!(world.plugin.operation("noun.verb").unwrap().policy.effect, windlass_types::Effect::Destroy);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_interfaces_of_one_name_are_refused() {
    let both = "export noun; export other:sample/thing@0.1.0;";
    let same = "interface thing { get: func(); } interface noun { verb: func(); }";
    // `thing.get` of either package would be the same operation.
    let error = load(&sample(same, &format!("{both} export thing;"))).await.unwrap_err();
    assert!(matches!(&error, LoadError::Twice(name) if name == "thing.get"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_operation_is_known_by_its_type_and_refused() {
    let interface = "interface noun {
        use windlass:plan/types@0.1.0.{plan};
        record other { steps: list<u8> }
        draw: func() -> result<plan, string>;
        look: func() -> result<other, string>;
    }";
    let world = World::of(&sample(interface, "export noun;"), &NodePolicy::default()).await;
    let planned = |local| world.plugin.operation(local).unwrap().planned;
    assert!(planned("noun.draw"));
    assert!(!planned("noun.look"));
    let outcome = world.outcome("noun.draw", json!({})).await;
    assert_eq!((&outcome["status"], &outcome["reason"]), (&json!("refused"), &json!("unknown_operation")));
    assert!(outcome["message"].as_str().unwrap().contains("master"), "{outcome}");
}
