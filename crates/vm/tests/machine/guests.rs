//! Boot sectors that do one thing each.

use assay_vm::{FrameSource, MachineOptions, TypingPace};

use crate::common::{PATIENCE, Place, frame, pixel};

/// mov dx,0x3f8; mov al,'A'; l: out dx,al; jmp l
const FLOOD: &[u8] = &[0xba, 0xf8, 0x03, 0xb0, b'A', 0xee, 0xeb, 0xfd];

/// Sets 800x600, fills the top rows with 0x5a; at each key the same in 1024x768 and back:
/// xor ax,ax; mov ss,ax; mov sp,0x7c00; mov bx,0x115; again: push bx; mov ax,0x4f02; int 0x10;
/// mov ax,0xa000; mov es,ax; mov al,0x5a; xor di,di; mov cx,0x9000; cld; rep stosb; xor ax,ax; int 0x16;
/// pop bx; xor bx,0xd; jmp again
const TWO_SIZES: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xbb, 0x15, 0x01, 0x53, 0xb8, 0x02, 0x4f, 0xcd, 0x10, 0xb8,
    0x00, 0xa0, 0x8e, 0xc0, 0xb0, 0x5a, 0x31, 0xff, 0xb9, 0x00, 0x90, 0xfc, 0xf3, 0xaa, 0x31, 0xc0, 0xcd,
    0x16, 0x5b, 0x83, 0xf3, 0x0d, 0xeb, 0xe1,
];

#[tokio::test]
async fn a_change_of_resolution_arrives_as_a_whole_picture() {
    let place = Place::new();
    let disk = place.boot_sector(TWO_SIZES);
    let machine = place.start(&[("HDD_1", disk.as_str())], MachineOptions::default()).await.unwrap();
    for (width, height) in [(800, 600), (1024, 768), (800, 600)] {
        let size = |f: &assay_vm::Frame| (f.image.width(), f.image.height()) == (width, height);
        frame(&machine, "the new size", |f| size(f) && pixel(f, 0, 0) == [0x5a; 3]).await;
        machine.send_key("spc", TypingPace::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_flood_on_the_serial_port_stops_nothing() {
    let place = Place::new();
    let disk = place.boot_sector(FLOOD);
    let options = MachineOptions { serial_limit: 100_000, ..MachineOptions::default() };
    let machine = place.start(&[("HDD_1", disk.as_str())], options).await.unwrap();
    let mut length = machine.serial().length();
    // More than both the file and the memory hold.
    let enough = length.wait_for(|&n| n > 1_500_000);
    let total = *tokio::time::timeout(PATIENCE, enough).await.unwrap().unwrap();
    machine.command("query-status", serde_json::json!({})).await.unwrap();
    assert!(machine.serial().cut_off().unwrap().contains("more than 100000 bytes"));
    assert!(fs_err::metadata(machine.serial().path()).unwrap().len() < 100_200);
    let last = machine.serial().read_from(total - 10, 10).unwrap();
    assert_eq!(last.bytes, b"AAAAAAAAAA");
    machine.stop().await;
}

/// Fills a 320x200 screen with the next colour each second, and then says so on the serial port:
/// xor ax,ax; mov ss,ax; mov sp,0x7c00; mov ax,0x13; int 0x10; mov ax,0xa000; mov es,ax; xor bx,bx;
/// next: xor ax,ax; int 0x1a; mov si,dx; wait: hlt; xor ax,ax; int 0x1a; sub dx,si; cmp dx,18; jb wait;
/// inc bx; mov al,bl; xor di,di; mov cx,0xfa00; cld; rep stosb; mov dx,0x3f8; out dx,al; jmp next
const TICK: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xb8, 0x13, 0x00, 0xcd, 0x10, 0xb8, 0x00, 0xa0, 0x8e, 0xc0,
    0x31, 0xdb, 0x31, 0xc0, 0xcd, 0x1a, 0x89, 0xd6, 0xf4, 0x31, 0xc0, 0xcd, 0x1a, 0x29, 0xf2, 0x83, 0xfa,
    0x12, 0x72, 0xf4, 0x43, 0x88, 0xd8, 0x31, 0xff, 0xb9, 0x00, 0xfa, 0xfc, 0xf3, 0xaa, 0xba, 0xf8, 0x03,
    0xee, 0xeb, 0xdd,
];

/// A screen that was quiet for a second: without the pacing QEMU would look at it each quarter of a
/// second, and the mean would be above 100 ms.
#[tokio::test]
async fn a_change_after_a_quiet_second_is_seen_at_once() {
    let place = Place::new();
    let disk = place.boot_sector(TICK);
    let machine = place.start(&[("HDD_1", disk.as_str())], MachineOptions::default()).await.unwrap();
    let (mut length, mut frames, epoch) = (machine.serial().length(), machine.frames(), machine.epoch());
    let _demand = machine.demand();
    let (mut said, mut shown, mut colour) = (Vec::new(), Vec::new(), [0; 3]);
    let watch = async {
        while said.len() < 6 || shown.len() < said.len() {
            tokio::select! {
                changed = length.changed() => { changed.unwrap(); said.push(epoch.elapsed()); }
                changed = frames.changed() => {
                    changed.unwrap();
                    let frame = frames.borrow_and_update();
                    // A frame that still shows half of the old colour comes before the guest speaks.
                    let now = pixel(&frame, frame.image.width() - 1, frame.image.height() - 1);
                    if now != colour && frame.image.width() < 720 {
                        colour = now;
                        shown.push(frame.at);
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, watch).await.unwrap();
    let late: Vec<f64> =
        said.iter().zip(&shown).map(|(s, f)| f.saturating_sub(*s).as_secs_f64() * 1000.0).collect();
    let mean = late.iter().sum::<f64>() / late.len() as f64;
    eprintln!("milliseconds from the serial byte to the frame: {late:.1?}, mean {mean:.1}");
    assert!(mean < 50.0, "{late:.1?}");
}
