# A queue, the gateway's user and an agent, custom fields, rights, a token in a file; RT's own mail is off.
use strict; use warnings;
our (@Queues, @CustomFields, @Users, @ACL, @Final);
@Queues = ({ Name => 'Support', CorrespondAddress => 'support@test.invalid', CommentAddress => 'support-comment@test.invalid' }, { Name => 'Bare' });
@Users = map { { Name => $_, RealName => ucfirst $_, EmailAddress => "$_\@test.invalid", Password => "$_-pass", Privileged => 1 } } qw(gateway agent1);
@CustomFields = (
  { Name => 'Conversation ID', Type => 'FreeformSingle', LookupType => 'RT::Queue-RT::Ticket', ApplyTo => ['Support'] },
  { Name => 'Message ID', Type => 'FreeformSingle', LookupType => 'RT::Queue-RT::Ticket-RT::Transaction', ApplyTo => ['Support'] },
);
my @rights = qw(SeeQueue ShowTicket ShowTicketComments CreateTicket ReplyToTicket CommentOnTicket ModifyTicket DeleteTicket OwnTicket SeeCustomField ModifyCustomField);
@ACL = (
  ( map { my $u = $_; map { { UserId => $u, Queue => 'Support', Right => $_ } } @rights } qw(gateway agent1) ),
  { UserId => 'gateway', Queue => 'Bare', Right => 'SeeQueue' },
  ( map { { UserId => 'gateway', Right => $_ } } qw(ManageAuthTokens) ),
  # Customers write by mail.
  ( map { { GroupDomain => 'SystemInternal', GroupType => 'Everyone', Queue => 'Support', Right => $_ } } qw(CreateTicket ReplyToTicket) ),
);
@Final = (
  sub { my $s = RT::Scrips->new(RT->SystemUser); $s->LimitToGlobal;
        while (my $r = $s->Next) { $r->SetDisabled(1) if $r->ActionObj->Name =~ /^(Notify|Autoreply)/ } },
  sub { my $u = RT::User->new(RT->SystemUser); $u->Load('gateway');
        my (undef, $msg, $str) = RT::AuthToken->new(RT::CurrentUser->new($u->Id))->Create(Owner => $u->Id, Description => 'gateway');
        die $msg unless $str;
        open my $fh, '>', $ENV{RT_TOKEN_FILE} or die $!; print $fh $str; close $fh; },
);
1;
