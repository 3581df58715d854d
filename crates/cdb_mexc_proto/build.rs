//! Generates the message types; protox compiles the schema, so no `protoc` is needed.

use std::error::Error;

const ROOT: &str = "proto/push_wrapper.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let schema = protox::compile([ROOT], ["proto"])?;
    prost_build::Config::new().compile_fds(schema)?;
    Ok(())
}
