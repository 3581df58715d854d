//! The exchange's push messages (exchange API §11), generated from `proto/`. The schema is a fact of the wire, and
//! the only thing that the client and the stand-in share.

#![allow(missing_docs, reason = "generated; the schema's comments say what is not plain")]

mod generated {
    #![allow(clippy::all, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/mexc.push.v3.rs"));
}

pub use generated::*;
