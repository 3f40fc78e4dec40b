//! Debian's OVMF: its shell, the variables that it writes, and Secure Boot, which does not let that shell start.

use assay_vm::{Ended, FrameSource, MachineOptions, TypingPace, VARS_FILE};

use crate::common::{Place, frame, serial};

const MACHINE: [(&str, &str); 3] = [("UEFI", "1"), ("QEMURAM", "256"), ("NICMODEL", "none")];

/// How a text stands in the firmware's variables.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[tokio::test]
async fn the_shell_writes_what_the_machine_leaves() {
    let place = Place::new();
    let options = MachineOptions { keep_disks: true, ..MachineOptions::default() };
    let machine = place.start(&MACHINE, options).await.unwrap();
    let at = serial(&machine, "any other key to continue", 0).await;
    machine.send_key("esc", TypingPace::default()).await.unwrap();
    let at = serial(&machine, "Shell>", at).await;
    let lit = |pixels: &[u8]| pixels.chunks(3).filter(|pixel| pixel.iter().any(|part| *part > 100)).count();
    frame(&machine, "the shell's text", |frame| frame.image.width() >= 640 && lit(frame.image.rgb()) > 1000)
        .await;
    machine.type_string("set assay kept\n", TypingPace::default()).await.unwrap();
    let at = serial(&machine, "Shell>", at).await;
    machine.type_string("set assay\n", TypingPace::default()).await.unwrap();
    serial(&machine, "kept", at).await;
    assert!(machine.frames().borrow().seq > 0);
    assert_eq!(machine.stop().await, Ended::Stopped);
    let left = fs_err::read(place.path().join("machine").join(VARS_FILE)).unwrap();
    let before = fs_err::read("/usr/share/OVMF/OVMF_VARS_4M.fd").unwrap();
    assert_eq!(left.len(), before.len());
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len() * 2).any(|part| part == utf16(text));
    assert!(has(&left, "assay") && !has(&before, "assay"), "what the shell has set is not there");
}

#[tokio::test]
async fn secure_boot_starts_nothing_unsigned() {
    let place = Place::new();
    let secure = [MACHINE.as_slice(), &[("UEFI_SECURE_BOOT", "1")]].concat();
    let machine = place.start(&secure, MachineOptions::default()).await.unwrap();
    let at = serial(&machine, "\"EFI Internal Shell\"", 0).await;
    let at = serial(&machine, "Security Violation", at).await;
    serial(&machine, "Press any key to enter the Boot Manager Menu", at).await;
    assert_eq!(machine.stop().await, Ended::Stopped);
}
