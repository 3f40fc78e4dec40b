#!/usr/bin/perl
# Asks os-autoinst's own matcher about the cases in a directory; writes its answers as JSON to standard output.
# See README.md.
use strict;
use warnings;
use JSON::PP;

# The matcher's Perl part wants the test driver's logging module, which wants half of CPAN. A log is not needed.
BEGIN {
    $INC{'bmwqemu.pm'} = 'none';
    package bmwqemu;
    sub import { no strict 'refs'; *{caller() . '::fctwarn'} = \&fctwarn }
    sub fctwarn { warn "@_\n" }
}
use tinycv;

# What the matcher wants of a needle.
package Needle {
    sub get_image { $_[0]{image} }
    sub has_property { 0 }
}

package main;

my $folder = shift or die "usage: oracle.pl DIRECTORY\n";
my $json = JSON::PP->new->canonical->allow_nonref;
open my $file, '<', "$folder/cases.json" or die "$folder/cases.json: $!\n";
my $cases = $json->decode(do { local $/; <$file> });
my @answers;
for my $case (@$cases) {
    my $scene = tinycv::read("$folder/$case->{name}.scene.png") or die "$case->{name}: no scene\n";
    my $image = tinycv::read("$folder/$case->{name}.needle.png") or die "$case->{name}: no needle\n";
    for my $area (grep { $_->{type} eq 'exclude' } @{$case->{area}}) {
        $image->replacerect(@{$area}{qw(xpos ypos width height)});
    }
    my $needle = bless {name => $case->{name}, image => $image, area => $case->{area}}, 'Needle';
    my $found = $scene->search_($needle, 0, $case->{ratio});
    push @answers, {
        name => $case->{name},
        matched => $found->{ok} ? JSON::PP::true : JSON::PP::false,
        error => sprintf('%.9f', $found->{error}) + 0,
        psnr => sprintf('%.6f', $scene->similarity($image)) + 0,
        areas => [map { {
            x => $_->{x} + 0, y => $_->{y} + 0, w => $_->{w} + 0, h => $_->{h} + 0,
            similarity => sprintf('%.9f', $_->{similarity}) + 0,
            ok => $_->{result} eq 'ok' ? JSON::PP::true : JSON::PP::false,
        } } @{$found->{area}}],
    };
}
print "[\n", join(",\n", map { $json->encode($_) } @answers), "\n]\n";
