import logging
import unittest

import testtools


class Words(testtools.TestCase):
    def test_fails(self):
        self.addDetail("note", testtools.content.text_content("a note\n]\nwith brackets"))
        self.assertEqual("one", "two")

    def test_passes(self):
        pass

    def test_skips(self):
        self.skipTest("no such machine")

    @unittest.expectedFailure
    def test_expected(self):
        self.fail("known")

    @unittest.expectedFailure
    def test_unexpected(self):
        pass

    def test_breaks(self):
        raise RuntimeError("ünïcode")

    def test_picture(self):
        self.addDetail(
            "picture",
            testtools.content.Content(
                testtools.content_type.ContentType("image", "png"), lambda: [b"\x89PNG\xb3\x20\x00"]
            ),
        )
        self.fail("see the picture")


class SetUp(testtools.TestCase):
    @classmethod
    def setUpClass(cls):
        raise RuntimeError("the class cannot be set up")

    def test_never(self):
        pass
