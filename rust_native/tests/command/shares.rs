use super::{fails, gpt2};

#[test]
fn kernels_are_timed_on_a_gpu_or_its_absence_is_told_with_a_remedy() {
    let output = gpt2(&["shares", "--rounds", "1", "--context", "8"], b"");
    if output.status.success() {
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("part,kernel,launches,bytes,"), "{text}");
        assert!(text.contains("\nlimit,stream,1,") && text.contains("\nprompt,all,86,"), "{text}");
        return;
    }
    eprintln!("SKIPPED on a GPU: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
    fails(&["shares", "--rounds", "1"], b"", &["NVIDIA driver", "install"]);
}

#[test]
fn numbers_of_nothing_are_refused() {
    for none in [["--batch", "0"], ["--context", "0"], ["--rounds", "0"]] {
        fails(&[&["shares"][..], &none].concat(), b"", &["at least 1"]);
    }
}
