//! Messages from client to server (RFC 6143 §7.5 and QEMU's extensions), appended to a byte queue.

use super::Encoding;

/// 32 bits a pixel, little endian, blue first: what QEMU holds itself, so that it need not convert.
pub(super) fn set_pixel_format(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0, 0]);
    out.extend_from_slice(&[32, 24, 0, 1]); // bits per pixel, depth, big endian, true colour
    out.extend_from_slice(&[0, 255, 0, 255, 0, 255]); // maxima of red, green, blue
    out.extend_from_slice(&[16, 8, 0]); // shifts of red, green, blue
    out.extend_from_slice(&[0, 0, 0]);
}

pub(super) fn set_encodings(out: &mut Vec<u8>, encodings: &[Encoding]) {
    out.extend_from_slice(&[2, 0]);
    out.extend_from_slice(&(encodings.len() as u16).to_be_bytes());
    for encoding in encodings {
        out.extend_from_slice(&encoding.number().to_be_bytes());
    }
}

pub(super) fn update_request(out: &mut Vec<u8>, incremental: bool, width: u32, height: u32) {
    out.extend_from_slice(&[3, u8::from(incremental), 0, 0, 0, 0]);
    out.extend_from_slice(&(width as u16).to_be_bytes());
    out.extend_from_slice(&(height as u16).to_be_bytes());
}

/// QEMU's extended key event: the key by its place on the keyboard, not by what is printed on it.
pub(super) fn scancode_event(out: &mut Vec<u8>, scancode: u8, down: bool) {
    out.extend_from_slice(&[255, 0, 0, u8::from(down)]);
    out.extend_from_slice(&0u32.to_be_bytes()); // no keysym: the scancode decides
    out.extend_from_slice(&u32::from(scancode).to_be_bytes());
}

pub(super) fn pointer_event(out: &mut Vec<u8>, x: u16, y: u16, buttons: u8) {
    out.extend_from_slice(&[5, buttons]);
    out.extend_from_slice(&x.to_be_bytes());
    out.extend_from_slice(&y.to_be_bytes());
}

pub(super) fn empty_cut_text(out: &mut Vec<u8>) {
    out.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0]);
}
