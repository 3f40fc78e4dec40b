"""Writes interleaved.subunit2: packets of two workers with routing codes, between other output, one test cut off."""

import datetime
import sys

from subunit.v2 import StreamResultToBytes

out = sys.stdout.buffer
stream = StreamResultToBytes(out)
begin = datetime.datetime(2026, 11, 21, 12, 0, 0, tzinfo=datetime.timezone.utc)


def at(ms):
    return begin + datetime.timedelta(milliseconds=ms)


for name in ("a", "b", "never"):
    stream.status(test_id=name, test_status="exists")
out.write("before: ó \u2026 \n".encode())
stream.status(test_id="a", test_status="inprogress", route_code="0", timestamp=at(0), test_tags=["slow", "worker-0"])
stream.status(test_id="a", test_status="inprogress", route_code="1", timestamp=at(1), test_tags=["worker-1"])
out.write(b"\xb3 alone, \xb3\x29\x00 like a packet\n")
stream.status(test_id="b", test_status="inprogress", route_code="1", timestamp=at(5))
stream.status(
    test_id="a", route_code="1", file_name="traceback", file_bytes=b"Traceback\n  part one\n", mime_type="text/x-traceback"
)
stream.status(test_id="a", route_code="0", test_status="success", timestamp=at(250), test_tags=["slow", "worker-0"])
stream.status(test_id="a", route_code="1", file_name="traceback", file_bytes=b"ValueError: part two\n", eof=True)
stream.status(test_id="a", route_code="1", test_status="fail", timestamp=at(1501))
stream.status(test_id="a", route_code="1", file_name="late", file_bytes=b"comes after the end", mime_type="text/plain")
for status in ("skip", "xfail", "uxsuccess"):
    stream.status(test_id=status, test_status=status, file_name="reason", file_bytes=b"because", timestamp=at(2000))
stream.status(test_id="big", test_status="inprogress", timestamp=at(2000))
stream.status(test_id="big", file_name="log", file_bytes=b"x" * 20000 + b"end", mime_type="text/plain;charset=utf8")
stream.status(test_id="big", test_status="fail", timestamp=at(2001))
stream.status(test_id="a", route_code="0", test_status="inprogress", timestamp=at(3000))
stream.status(test_id="a", route_code="0", test_status="fail", timestamp=at(3001))
stream.status(file_name="stdout", file_bytes=b"of no test\n")
