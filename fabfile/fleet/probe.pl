# What answers there?  Each argument is "ADDRESS,PORT"; all are tried side by side, and each is told as "ADDRESS PORT WORD":
# open; refused (the packet came through, and nobody listens); silent (dropped on its way); none (no way there at all).
# Port 0 is a ping, which every firewall of ours answers: without one, silence proves nothing.
# Perl, since perl-base is essential: it is on every Debian, and tells one errno from another.
use strict;
use warnings;
use Errno qw(EINPROGRESS ECONNREFUSED);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use IO::Select;
use Socket qw(:DEFAULT getaddrinfo AI_NUMERICHOST AI_NUMERICSERV);

$| = 1;
my ($patience, $tries) = (3, 400);    # seconds: a lost SYN goes out again after one; and open files at a time

sub told { print join(' ', @_), "\n" }

sub word { my $error = shift; !$error ? 'open' : $error == ECONNREFUSED ? 'refused' : $error == 110 ? 'silent' : 'none' }

sub begin {
    my ($family, $place, $port) = @_;
    my $ping = $port == 0;
    my $protocol = !$ping ? 6 : $family == AF_INET ? 1 : 58;
    socket(my $sock, $family, $ping ? SOCK_RAW : SOCK_STREAM, $protocol) or return (undef, $! + 0);
    fcntl($sock, F_SETFL, fcntl($sock, F_GETFL, 0) | O_NONBLOCK);
    connect($sock, $place) or $! == EINPROGRESS or return (undef, $! + 0);
    if ($ping) {
        my $type = $family == AF_INET ? 8 : 128;    # the kernel itself sums up what is ICMPv6
        my $packet = pack('CCnnn', $type, 0, 0, $$ & 0xffff, 1);
        my $sum = 0;
        $sum += $_ for unpack('n*', $packet);
        $sum = ($sum >> 16) + ($sum & 0xffff);
        substr($packet, 2, 2) = pack('n', ~$sum & 0xffff) if $family == AF_INET;
        send($sock, $packet, 0) or return (undef, $! + 0);
    }
    return ($sock, 0);
}

# Whether it is over with this one, and how; a raw socket hears everything that comes from there.
sub heard {
    my ($sock, $family, $port) = @_;
    return (1, word(unpack('i', getsockopt($sock, SOL_SOCKET, SO_ERROR)))) if $port;
    my $packet = '';
    defined(recv($sock, $packet, 1500, 0)) or return (1, 'none');
    my $start = $family == AF_INET ? (ord($packet) & 15) * 4 : 0;
    my ($type, undef, undef, $id) = unpack('CCnn', substr($packet, $start));
    my $answer = $family == AF_INET ? 0 : 129;
    return (defined $id && $type == $answer && $id == ($$ & 0xffff), 'open');
}

while (my @some = splice(@ARGV, 0, $tries)) {
    my ($reading, $writing, %of) = (IO::Select->new, IO::Select->new);
    for my $probe (@some) {
        my ($address, $port) = split /,/, $probe;
        my ($error, $found) =
            getaddrinfo($address, $port, { flags => AI_NUMERICHOST | AI_NUMERICSERV, socktype => SOCK_STREAM });
        if ($error) { told($address, $port, 'none'); next }
        my ($sock, $failed) = begin($found->{family}, $found->{addr}, $port);
        if (!$sock) { told($address, $port, word($failed)); next }
        $of{ fileno $sock } = [$address, $port, $found->{family}];
        ($port ? $writing : $reading)->add($sock);
    }
    my $end = time + $patience + 1;
    while (%of && (my $left = $end - time) > 0) {
        my ($read, $written) = IO::Select->select($reading, $writing, undef, $left) or last;
        for my $sock (@$read, @$written) {
            my ($address, $port, $family) = @{ $of{ fileno $sock } };
            my ($over, $word) = heard($sock, $family, $port);
            next unless $over;
            told($address, $port, $word);
            delete $of{ fileno $sock };
            ($port ? $writing : $reading)->remove($sock);
            close $sock;
        }
    }
    told(@{$_}[0, 1], 'silent') for values %of;
}
