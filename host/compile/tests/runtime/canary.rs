//! A plugin that can not be instantiated is found out before it is put to use.

use crate::{
    loading::{Initialize, initialized},
    world::{World, bundle},
};
use wasm_encoder::{BlockType, MemArg};
use windlass_bundle::NodePolicy;
use windlass_runtime::{CANARY_TIME, CanaryError};
use windlass_types::TrapReason;

const NOUN: &str = "interface noun { verb: func(); }";

async fn canary(world: &str, initialize: Initialize<'_>, manifest: &str) -> Result<(), CanaryError> {
    let bundle = initialized(NOUN, world, Some(initialize), manifest);
    let world = World::of(&bundle, &NodePolicy::default()).await;
    world.runtime.canary(&world.plugin).await
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_that_come_to_life_pass() {
    for name in ["torture", "monitor", "zfs"] {
        let world = World::of(&bundle(name), &NodePolicy::default()).await;
        world.runtime.canary(&world.plugin).await.unwrap();
    }
    canary("export noun;", &|body| _ = body.nop(), "").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_breaks_or_passes_a_limit_tells_which() {
    let traps = canary("export noun;", &|body| _ = body.unreachable(), "").await.unwrap_err();
    assert!(matches!(traps, CanaryError::Trapped { reason: TrapReason::Crash, .. }), "{traps}");

    let grows: Initialize<'_> = &|body| _ = body.i32_const(64).memory_grow(0).drop();
    let grows = canary("export noun;", grows, "[limits]\nmemory = \"1MiB\"").await.unwrap_err();
    assert!(matches!(grows, CanaryError::Trapped { reason: TrapReason::Memory, .. }), "{grows}");
    assert!(grows.to_string().contains("limits.memory"), "{grows}");

    let spins = canary("export noun;", SPIN, "[limits]\ncpu = \"100ms\"").await.unwrap_err();
    assert!(matches!(spins, CanaryError::Trapped { reason: TrapReason::Cpu, .. }), "{spins}");
}

const SPIN: Initialize<'static> = &|body| _ = body.loop_(BlockType::Empty).br(0).end();

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_too_long_is_ended_whatever_its_own_limits_allow() {
    let began = std::time::Instant::now();
    let spins = canary("export noun;", SPIN, "[limits]\ncpu = \"60s\"").await.unwrap_err();
    assert_eq!(spins, CanaryError::TimedOut);
    assert!(began.elapsed() >= CANARY_TIME);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_granted_while_it_is_instantiated() {
    // Asks a probe that its manifest was granted, and traps where it gets an answer: the first byte
    // of a `result` is 0 for ok.
    let asks: Initialize<'_> = &|body| {
        let first = MemArg { offset: 0, align: 0, memory_index: 0 };
        body.i32_const(1024).call(MEMORY).i32_const(1024).i32_load8_u(first).i32_eqz();
        body.if_(BlockType::Empty).unreachable().end();
    };
    // The third function of the interface.
    const MEMORY: u32 = 2;
    let world = "import windlass:host/probes@0.1.0; export noun;";
    canary(world, asks, "probes = [\"memory\"]").await.unwrap();
}
