"""Authentication by session token or by initData, on any route; the first contact registers the user."""

from collections import OrderedDict

from fastapi import Request

from chassis import database, envelope, outbox
from contracts import gateway, message
from gateway import settings
from gateway.access import domain, store
from gateway.domain import sessions

AUTHORIZATION_MAX_CHARS = domain.initdata.SIZE_MAX_BYTES + 16
USER_IDS_MAX = 10_000


class Authenticator:
    """Authenticates the requests of one process, for one tenant and its bot."""

    def __init__(self, config: settings.GatewaySettings, db: database.Database) -> None:
        """Derive the keys that tokens and initData are checked with."""
        self._db = db
        self._tenant = message.TenantId(config.tenant)
        self._token_secret = config.session_secret.get_secret_value()
        self._init_data_secret = domain.initdata.secret_of(config.bot_token.get_secret_value())
        self._init_data_ttl_s = config.init_data_ttl_s
        self._user_ids: OrderedDict[int, message.UserId] = OrderedDict()

    async def session_of(self, request: Request) -> sessions.Session:
        """Return the session of a request; initData of a new person registers a user.

        Raises a subclass of Unauthenticated for missing, invalid or expired credentials, and for a token of a user who
        is no more: a token outlives its user by up to its whole life.
        """
        scheme, credentials = _credentials(request)
        if scheme == "bearer":
            session = self._session_of_token(request, credentials)
            async with self._db.statement() as tx:
                if await store.get_user(tx, session.tenant, session.user_id) is None:
                    raise sessions.TokenInvalid
            return session
        if scheme == "tma":
            user = await self.log_in(credentials)
            return sessions.Session(self._tenant, message.UserId(user.id))
        raise sessions.Unauthenticated

    async def known_user(self, request: Request) -> message.UserId | None:
        """Return the user of a request without registering anybody; None when there is no proof of one."""
        try:
            scheme, credentials = _credentials(request)
            if scheme == "bearer":
                return self._session_of_token(request, credentials).user_id
            person = self._checked(credentials) if scheme == "tma" else None
        except sessions.Unauthenticated:
            return None
        if person is None:
            return None
        if person.id not in self._user_ids:
            async with self._db.statement() as tx:
                user = await store.find_user(tx, self._tenant, person.id)
            if user is None:
                return None
            self._user_ids[person.id] = message.UserId(user.id)
        self._user_ids.move_to_end(person.id)
        while len(self._user_ids) > USER_IDS_MAX:
            self._user_ids.popitem(last=False)
        return self._user_ids[person.id]

    async def log_in(self, init_data: str) -> domain.users.User:
        """Return the user whose initData this is, a new one at first contact. Raises a subclass of Unauthenticated."""
        person = self._checked(init_data)
        async with self._db.statement() as tx:
            user = await store.find_user(tx, self._tenant, person.id)
        return user or await self._register(person)

    async def _register(self, person: domain.initdata.TelegramUser) -> domain.users.User:
        user_id = message.UserId(envelope.uuid7())
        async with self._db.transaction() as tx:
            user = await store.add_user(tx, self._tenant, user_id, person.id)
            if user is not None:
                registered = gateway.UserRegistered(
                    tenant=self._tenant, user_id=user_id, telegram_id=person.id, language=person.language
                )
                await outbox.put(tx, [registered])
                return user
            user = await store.find_user(tx, self._tenant, person.id)
        assert user is not None  # the transaction that was first has committed, and users are never deleted
        return user

    def _checked(self, init_data: str) -> domain.initdata.TelegramUser:
        return domain.initdata.check(
            init_data, secret=self._init_data_secret, now=envelope.now(), ttl_s=self._init_data_ttl_s
        )

    def _session_of_token(self, request: Request, token: str) -> sessions.Session:
        # The rate limits authenticate a request before its route does.
        session = getattr(request.state, "session", None)
        if not isinstance(session, sessions.Session):
            session = domain.tokens.read(token, tenant=self._tenant, secret=self._token_secret, now=envelope.now())
            request.state.session = session
        return session


def _credentials(request: Request) -> tuple[str, str]:
    header = request.headers.get("authorization", "")
    scheme, _, credentials = header.partition(" ")
    if len(header) > AUTHORIZATION_MAX_CHARS or not credentials:
        raise sessions.Unauthenticated
    return scheme.lower(), credentials.strip()
