use proptest::prelude::*;

use super::*;

/// A server's greeting up to and with its ServerInit for a screen of this size.
fn greeting(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = b"RFB 003.008\n\x01\x01\0\0\0\0".to_vec();
    bytes.extend_from_slice(&width.to_be_bytes());
    bytes.extend_from_slice(&height.to_be_bytes());
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&4u32.to_be_bytes());
    bytes.extend_from_slice(b"QEMU");
    bytes
}

fn update(rects: u16) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend_from_slice(&rects.to_be_bytes());
    bytes
}

fn rect(x: u16, y: u16, w: u16, h: u16, encoding: i32) -> Vec<u8> {
    let mut bytes: Vec<u8> = [x, y, w, h].iter().flat_map(|n| n.to_be_bytes()).collect();
    bytes.extend_from_slice(&encoding.to_be_bytes());
    bytes
}

/// Raw pixels, all of one colour, as QEMU sends them.
fn pixels(count: usize, [r, g, b]: [u8; 3]) -> Vec<u8> {
    [b, g, r, 0].repeat(count)
}

fn at(client: &Client, x: u32, y: u32) -> [u8; 3] {
    let start = ((y * client.image().width() + x) * 3) as usize;
    client.image().rgb()[start..start + 3].try_into().unwrap()
}

fn connected(width: u16, height: u16) -> Client {
    let mut client = Client::default();
    let events = client.receive(&greeting(width, height)).unwrap();
    assert_eq!(events, [Event::Ready { width: width.into(), height: height.into() }]);
    client
}

/// All kinds of rectangles a QEMU sends, in three updates on a screen of 8 x 4 and then 4 x 2.
fn session() -> Vec<u8> {
    let parts = [
        greeting(8, 4),
        update(3),
        rect(0, 0, 1, 0, -258),
        rect(1, 0, 0, 0, -257),
        rect(0, 0, 8, 4, 0),
        pixels(32, [10, 20, 30]),
        vec![2],
        update(u16::MAX),
        rect(6, 3, 2, 1, 0),
        pixels(2, [1, 2, 3]),
        rect(0, 0, 2, 1, 1),
        vec![0, 6, 0, 3],
        rect(0, 0, 0, 0, -224),
        vec![3, 0, 0, 0, 0, 0, 0, 2, b'h', b'i'],
        update(2),
        rect(0, 0, 4, 2, -308),
        vec![1, 0, 0, 0],
        vec![9; 16],
        rect(0, 0, 4, 1, 0),
        pixels(4, [7, 7, 7]),
    ];
    parts.concat()
}

#[test]
fn a_session() {
    let mut client = Client::default();
    let events = client.receive(&session()).unwrap();
    let r = |x, y, w, h| Rect { x, y, w, h };
    assert_eq!(
        events,
        [
            Event::Ready { width: 8, height: 4 },
            Event::Update(vec![r(0, 0, 8, 4)]),
            Event::Bell,
            Event::Update(vec![r(6, 3, 2, 1), r(0, 0, 2, 1)]),
            // The first picture of a new size is new everywhere.
            Event::Update(vec![r(0, 0, 4, 2)]),
        ]
    );
    assert!(client.takes_scancodes() && client.pointer_is_absolute());
    assert_eq!((client.image().width(), client.image().height()), (4, 2));
    assert_eq!((at(&client, 3, 0), at(&client, 3, 1)), ([7; 3], [0; 3]));
}

#[test]
fn pixels_and_copies_land_where_they_belong() {
    let mut client = connected(8, 4);
    let whole = [update(1), rect(0, 0, 8, 4, 0), pixels(32, [10, 20, 30])].concat();
    client.receive(&whole).unwrap();
    let dot = [update(1), rect(7, 3, 1, 1, 0), pixels(1, [1, 2, 3])].concat();
    client.receive(&dot).unwrap();
    assert_eq!(
        (at(&client, 7, 3), at(&client, 6, 3), at(&client, 7, 2)),
        ([1, 2, 3], [10, 20, 30], [10, 20, 30])
    );
    // A copy that overlaps itself, upwards: the dot moves by one row.
    let copy = [update(1), rect(0, 0, 8, 3, 1), vec![0, 0, 0, 1]].concat();
    client.receive(&copy).unwrap();
    assert_eq!(at(&client, 7, 2), [1, 2, 3]);
    // And downwards: row 2 goes to row 3, the old row 1 to row 2.
    let copy = [update(1), rect(0, 1, 8, 3, 1), vec![0, 0, 0, 0]].concat();
    client.receive(&copy).unwrap();
    assert_eq!((at(&client, 7, 3), at(&client, 7, 2)), ([1, 2, 3], [10, 20, 30]));
}

#[test]
fn a_new_size_without_pixels_is_not_a_picture() {
    let mut client = connected(8, 4);
    let events = client.receive(&[update(1), rect(0, 0, 4, 4, -223)].concat()).unwrap();
    assert_eq!(events, []);
    let events = client.receive(&[update(1), rect(0, 0, 4, 4, 0), pixels(16, [1; 3])].concat()).unwrap();
    assert_eq!(events, [Event::Update(vec![Rect { x: 0, y: 0, w: 4, h: 4 }])]);
}

#[test]
fn what_the_client_sends() {
    let mut client = connected(1024, 768);
    let mut said = b"RFB 003.008\n\x01\x01".to_vec();
    said.extend_from_slice(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
    said.extend_from_slice(&[2, 0, 0, 6]);
    for encoding in [1, 0, -223, -224, -258, -257_i32] {
        said.extend_from_slice(&encoding.to_be_bytes());
    }
    said.extend_from_slice(&[3, 0, 0, 0, 0, 0, 4, 0, 3, 0]);
    assert_eq!(client.output(), said);
    client.sent(said.len());
    client.key(0x9d, true);
    client.pointer(0x102, 3, 4);
    client.nudge();
    assert_eq!(
        client.output(),
        [255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x9d, 5, 4, 1, 2, 0, 3, 6, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn refusals() {
    let error = |bytes: &[u8]| Client::default().receive(bytes).unwrap_err();
    assert_eq!(error(b"SSH-2.0-Open"), RfbError::NotRfb("SSH-2.0-Open".to_owned()));
    assert_eq!(error(b"RFB 003.003\n"), RfbError::TooOld(3, 3));
    assert_eq!(error(b"RFB 003.008\n\x01\x02"), RfbError::SecurityUnsupported(vec![2]));
    assert_eq!(error(b"RFB 003.008\n\x00\0\0\0\x02no"), RfbError::Refused("no".to_owned()));
    assert_eq!(error(b"RFB 003.008\n\x01\x01\0\0\0\x01\0\0\0\x04busy"), RfbError::Refused("busy".to_owned()));
    assert_eq!(error(b"RFB 003.008\n\x00\xff\0\0\0"), RfbError::TextTooLong(0xff00_0000));
    assert_eq!(error(&greeting(0, 4)), RfbError::BadSize(0, 4));
    assert_eq!(error(&greeting(16_384, 16_384)), RfbError::BadSize(16_384, 16_384));
    let after = |bytes: Vec<u8>| connected(8, 4).receive(&bytes).unwrap_err();
    assert_eq!(after(vec![77]), RfbError::UnknownMessage(77));
    assert_eq!(after([update(1), rect(0, 0, 1, 1, 5)].concat()), RfbError::UnknownEncoding(5));
    assert!(matches!(after([update(1), rect(1, 0, 8, 1, 0)].concat()), RfbError::OutOfScreen { .. }));
    let copy = [update(1), rect(0, 0, 8, 1, 1), vec![0, 0, 0, 4]].concat();
    assert!(matches!(after(copy), RfbError::OutOfScreen { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_cut_gives_the_same(cuts in prop::collection::vec(1usize..40, 0..60)) {
        let stream = session();
        let mut whole = Client::default();
        let expected = whole.receive(&stream).unwrap();
        let (mut client, mut events, mut rest) = (Client::default(), Vec::new(), &stream[..]);
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            events.extend(client.receive(now).unwrap());
            rest = later;
        }
        events.extend(client.receive(rest).unwrap());
        prop_assert_eq!(events, expected);
        prop_assert!(client.image() == whole.image());
        prop_assert_eq!(client.output(), whole.output());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), prefix in 0usize..200) {
        let mut stream = session();
        stream.truncate(prefix);
        stream.extend_from_slice(&bytes);
        let mut client = Client::default();
        let _ = client.receive(&stream);
    }

    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((0usize..300, any::<u8>()), 1..6)) {
        let mut stream = session();
        for (at, value) in changes {
            let length = stream.len();
            stream[at % length] = value;
        }
        let mut client = Client::default();
        let _ = client.receive(&stream);
    }
}
