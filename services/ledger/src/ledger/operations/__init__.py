"""The operators' door: look after accounts, look back, move in from older systems, and hand out receipts."""

from ledger.operations import books, history, imports, receipt

COMMANDS = {
    **books.COMMANDS,
    **history.COMMANDS,
    "import": imports.command,
    "receipt": receipt.command,
}
