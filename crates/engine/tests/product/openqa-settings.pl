# What openQA itself makes of settings: `perl openqa-settings.pl 5000 > cases.jsonl`, with Debian's openqa-common.
# openqa-settings.jsonl has a hundred of these cases; their order of keys is fixed, their number is small.
use strict;
use warnings;
use lib '/usr/share/openqa/lib';
use Mojo::JSON 'encode_json';
use OpenQA::JobSettings;

# As much of a database row as is asked for.
package Setting;
sub key   { $_[0]{key} }
sub value { $_[0]{value} }

package Row;
sub new { my ($class, %fields) = @_; bless {%fields}, $class }
sub settings { my $all = $_[0]{settings}; map { bless {key => $_, value => $all->{$_}}, 'Setting' } sort keys %$all }
sub name        { $_[0]{name} }
sub backend     { 'qemu' }
sub test_suite  { $_[0]{suite} }
sub description { '' }

package main;
srand 7;
my @keys   = qw(A B C D +A +B ISO HDD_1 ISO_URL HDD_1_DECOMPRESS_URL WORKER_CLASS LONG_NAME);
my @values = (
    'x', '%A%', '%B%/%C%', 'p%D%q', '', '%LONG_NAME%%A%', '%TEST%@%MACHINE%', '%BUILD%', '50%', 'a,b',
    '%VERSION%-%ARCH%', 'https://h/d/f.iso', 'http://h/i.qcow2.xz?q'
);
my @urls    = ('https://h/d/f.iso', 'http://h/%BUILD%/i-%BUILD%.qcow2.xz?q');
my @classes = ('k1', 'k2', 'k2,k3');

sub settings {
    my ($share) = @_;
    my %all;
    for my $key (@keys) {
        next if rand() > $share;
        my $from = $key =~ /_URL$/ ? \@urls : $key eq 'WORKER_CLASS' ? \@classes : \@values;
        $all{$key} = $from->[rand @$from];
    }
    return \%all;
}

for (1 .. $ARGV[0]) {
    my %layers = map { $_ => settings(0.22) } qw(product machine suite template);
    my $post   = settings(0.15);
    delete $post->{WORKER_CLASS};
    $post = {%$post, DISTRI => 'OS', VERSION => '1', FLAVOR => 'DVD', ARCH => 'x86_64', BUILD => '7'};
    my $suite = Row->new(settings => $layers{suite}, name => 'install');
    my %out;
    my $error = OpenQA::JobSettings::generate_settings(
        {
            settings     => \%out,
            input_args   => $post,
            product      => Row->new(settings => $layers{product}),
            machine      => Row->new(settings => $layers{machine}, name => '64bit'),
            test_suite   => $suite,
            job_template => Row->new(settings => $layers{template}, suite => $suite, name => ''),
        });
    print encode_json({%layers, post => $post, out => \%out, err => $error ? \1 : \0}), "\n";
}
