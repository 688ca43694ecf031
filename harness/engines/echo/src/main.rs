//! The binary `engine-echo`: engines that stand for no model.
//!
//! `noop`, `stream` and `arithmetic` are measured beside the contestants (the price of the protocol; the
//! memory limit of decode; the arithmetic limit of prefill). `count` and `guess` with their kin are deterministic contestants for the harness's
//! own tests, `fault-*` misbehave in one way each. None of them needs a model or a vocabulary on disk, except
//! the limits, which ask the checkpoint's header for its sizes.

mod arithmetic;
mod checkpoint;
mod count;
mod fault;
mod guess;
mod multiply;
mod noop;
mod stream;
mod sum;

use std::io::BufReader;
use worker::{Engine, monotonic_ns, serve, serve_on};

/// Every variant, as the error message lists them.
const VARIANTS: &str = "noop, stream, stream-bf16, stream-int8, stream-int4, arithmetic, arithmetic-bf16, \
                        arithmetic-int8, arithmetic-int4, count, count-2x, \
                        count-plus-PERCENT, guess, guess-off-PERCENT, guess-blind, guess-restless, \
                        fault-crash, fault-hang, fault-garbage, fault-wrong, fault-slow";

fn main() -> anyhow::Result<()> {
    let variant = std::env::args().nth(1).unwrap_or_default();
    if variant == fault::GARBAGE {
        let out = fault::Garbled::new(std::io::stdout());
        let mut engine = fault::Faulty::garbage();
        return serve_on(&mut engine, BufReader::new(std::io::stdin()), out, monotonic_ns());
    }
    let Some(mut engine) = engine(&variant) else {
        eprintln!("engine-echo: no variant `{variant}`; there are: {VARIANTS}");
        std::process::exit(2);
    };
    serve(engine.as_mut())
}

fn engine(variant: &str) -> Option<Box<dyn Engine>> {
    match variant {
        "noop" => Some(Box::new(noop::Noop)),
        _ if variant.starts_with("stream") => Some(Box::new(stream::Stream::parse(variant)?)),
        _ if variant.starts_with("arithmetic") => Some(Box::new(arithmetic::Arithmetic::parse(variant)?)),
        _ if variant.starts_with("guess") => Some(Box::new(guess::Guess::parse(variant)?)),
        _ => match fault::Faulty::parse(variant) {
            Some(engine) => Some(Box::new(engine)),
            None => Some(Box::new(count::Count::parse(variant)?)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worker::Reply;

    /// Replies of `engine` to `orders`, one JSON object a line.
    pub(crate) fn talk(engine: &mut dyn Engine, orders: &str) -> Vec<Reply> {
        let mut out = Vec::new();
        serve_on(engine, orders.as_bytes(), &mut out, monotonic_ns()).unwrap();
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_listed_variant_exists_and_no_other() {
        for variant in VARIANTS.split(", ").map(|name| name.trim().replace("PERCENT", "5")) {
            let name = engine(&variant).map(|engine| engine.identity().engine);
            if variant != fault::GARBAGE {
                let limit = ["stream", "arithmetic"].iter().any(|limit| variant.starts_with(limit));
                let family = if limit { "limit" } else { "echo" };
                assert_eq!(name.as_deref(), Some(format!("{family}/{variant}").as_str()));
            }
        }
        for unknown in [
            "",
            "nop",
            "stream-",
            "stream-f32",
            "arithmetic-",
            "arithmetic-f32",
            "count-",
            "count-plus-",
            "count-plus-x",
            "guess-",
            "fault-",
        ] {
            assert!(engine(unknown).is_none(), "{unknown}");
        }
    }
}
