use Test::More;
plan tests => 6;
ok(1, 'passes');
is("one", "two", 'fails');
SKIP: { skip "no such machine", 1; ok(0); }
TODO: { local $TODO = "known"; ok(0, 'expected'); ok(1, 'bonus'); }
subtest 'inner #1' => sub { plan tests => 2; ok(1, 'deep'); ok(0, 'deep too'); };
