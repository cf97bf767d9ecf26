"""What must be read and locked in the database before requests can be settled."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never
from uuid import UUID

from chassis import errors
from contracts import ledger
from contracts.message import TenantId
from ledger.domain import chart, double_entry, holds, provider, requests

HoldKey = tuple[TenantId, ledger.HoldId]
TransferKey = tuple[TenantId, ledger.TransferId]
Definitions = Mapping[chart.AccountName, chart.AccountDefinition]


class Accounts(NamedTuple):
    """Accounts to lock: `to_open` are opened where they are missing, `to_read` are used only when they exist."""

    to_read: Definitions
    to_open: Definitions


@dataclass(slots=True)
class Requirements:
    """What the requests of one batch require, as far as it can be read from their messages.

    `plans` are the transfers that events of payments lead to, and `refusals` the requests that name an unknown asset or
    account, both by the request's event id.
    """

    to_read: dict[chart.AccountName, chart.AccountDefinition] = field(default_factory=dict)
    to_open: dict[chart.AccountName, chart.AccountDefinition] = field(default_factory=dict)
    to_hold: set[chart.AccountName] = field(default_factory=set)
    has_capture: bool = False
    hold_keys: set[HoldKey] = field(default_factory=set)
    transfer_keys: set[TransferKey] = field(default_factory=set)
    request_keys: list[requests.RequestKey] = field(default_factory=list)
    plans: dict[UUID, provider.Plan] = field(default_factory=dict)
    refusals: dict[UUID, errors.Refusal] = field(default_factory=dict)

    @property
    def natural_keys(self) -> set[provider.NaturalKey]:
        """The keys of transfers that may be posted already."""
        return {key for plan in self.plans.values() for key in plan.natural_keys}

    @property
    def reversed_keys(self) -> set[provider.NaturalKey]:
        """The keys of transfers that events of payments reverse."""
        return {plan.reversal.original for plan in self.plans.values() if plan.reversal}

    def top_ups(
        self, posted_keys: Collection[provider.NaturalKey], *, new_id: Callable[[], UUID]
    ) -> dict[UUID, double_entry.Transfer]:
        """Make the transfers of payments that are not posted yet, by event id; one for each payment."""
        made, seen = {}, set(posted_keys)
        for event_id, plan in self.plans.items():
            for planned in plan.transfers[:1]:
                if planned.key.kind == "top_up" and planned.key not in seen:
                    seen.add(planned.key)
                    made[event_id] = planned.transfer(new_id(), event_id)
        return made

    def accounts(
        self, *, of_holds: Collection[chart.AccountName], of_reversals: Collection[chart.AccountName]
    ) -> Accounts:
        """Return the accounts to lock, once those of the holds and of the transfers to reverse are read.

        Captures credit the revenue account of every asset that is held.
        """
        held = self.to_hold.union(of_holds)
        read = {name: chart.definition_of(name) for name in (*of_reversals, *held)}
        revenues = map(holds.revenue_of, held) if self.has_capture else ()
        return Accounts({**self.to_read, **read}, {**self.to_open, **{each.name: each for each in revenues}})

    def add(self, request: requests.Request) -> None:
        """Add what one request requires. Raises UnknownAsset, UnknownAccount, and then it requires nothing."""
        message = request.message
        if isinstance(message, provider.Event):
            plan = self.plans[request.event_id] = provider.plan(message)
            self._open(*plan.accounts)
            if plan.reservation:
                self.hold_keys.add(plan.reservation.key)
            return
        self.request_keys.append(requests.RequestKey(message.tenant, message.request_key))
        match message:
            case ledger.PlaceHold():
                self.to_hold.update(part.name for part in holds.from_command(message).current.parts)
                self.hold_keys.add((message.tenant, message.hold_id))
            case ledger.HoldCommand():
                self.hold_keys.add((message.tenant, message.hold_id))
                self.has_capture |= isinstance(message, ledger.CaptureHold)
            case ledger.PostTransfers():
                names = [(leg.account, leg.asset) for transfer in message.transfers for leg in transfer.legs]
                self._open(*[chart.definition_of(chart.AccountName(message.tenant, *name)) for name in names])
            case ledger.TransferFunds():
                source = chart.user_account(message.tenant, message.from_user_id, message.amount.currency)
                self.to_read[source.name] = source
                self._open(chart.user_account(message.tenant, message.to_user_id, message.amount.currency))
            case ledger.ReverseTransfer():
                self.transfer_keys.add((message.tenant, message.transfer_id))
            case ledger.AccountCommand():
                self._open(chart.definition_of(chart.AccountName(message.tenant, message.account, message.asset)))
            case _:
                assert_never(message)

    def _open(self, *definitions: chart.AccountDefinition) -> None:
        self.to_open.update((definition.name, definition) for definition in definitions)


def of_requests(to_settle: Sequence[requests.Request]) -> Requirements:
    """Return what requests require; one that names an unknown asset or account requires nothing."""
    required = Requirements()
    for request in to_settle:
        try:
            required.add(request)
        except errors.Refusal as refusal:
            required.refusals[request.event_id] = refusal
    return required


def of_expired_lots(names: Collection[chart.AccountName]) -> Requirements:
    """Return what the expiry of lots requires: the accounts that they are on, and those of breakage."""
    breakage = [chart.system_account(name.tenant, "breakage", name.asset) for name in names]
    return Requirements(
        to_read={name: chart.definition_of(name) for name in names},
        to_open={definition.name: definition for definition in breakage},
    )
