//! Compiles the protocol without an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["windlass/v1/enroll.proto", "windlass/v1/node.proto"], ["proto"])?;
    // The client brings its own connection (mTLS); a generated `connect` would clash with the method.
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .bytes(".")
        .build_transport(false)
        .compile_fds(files)?;
    Ok(())
}
