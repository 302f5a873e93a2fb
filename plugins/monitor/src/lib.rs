//! `windlass:monitor`: what a node is and how it does.
//!
//! Everything comes from `windlass:host/probes`; this plugin chooses, joins and names. [`report`]
//! does that as pure functions, so that it is tested natively; the glue to the host is compiled for
//! wasm32 only.

#[cfg(any(target_arch = "wasm32", test))]
mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/host", "wit"],
        world: "windlass:monitor/plugin",
        generate_all,
        additional_derives: [PartialEq],
    });
}

#[cfg(target_arch = "wasm32")]
mod guest;
#[cfg(any(target_arch = "wasm32", test))]
mod report;
