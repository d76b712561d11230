"""Promotions: which version is champion, and every decision about a version with its reason.

Rows are added and never changed.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.city import City
from data.store.columns import as_second, now
from data.store.database import Repository
from data.store.schema import FORECAST, JUDGEMENT, PROMOTION

PROMOTED, REFUSED, ROLLED_BACK = "promoted", "refused", "rolled back"


class Promotions(Repository):
    """The promotions in `database`, and the decisions about versions."""

    def promote(self, city: City, version: str, reason: str) -> None:
        """Makes `version` the city's champion from now on."""
        with self._database.write() as connection:
            _insert_promotion(connection, city, now(), version, reason)

    def champion(self, city: City) -> str | None:
        """Returns the version promoted last, None without one."""
        with self._database.read() as connection:
            return _newest_promotion(connection, city)[0]

    def table(self, city: City) -> pd.DataFrame:
        """Returns the promotions, oldest first: `at`, `version`, `reason`."""
        query = sa.select(PROMOTION).where(PROMOTION.c.city == city.name).order_by(PROMOTION.c.id)
        return self._database.table(query, times=["at"])

    def decide(
        self,
        city: City,
        version: str,
        verdict: str,
        reason: str,
        at: np.datetime64,
        gates: Mapping[str, Any] | None = None,
        manifest_sha256: str = "",
        instead_of: tuple[str | None, str] | None = None,
    ) -> bool:
        """Stores a decision, and makes the version champion where it says so, in one transaction.

        Args:
            city: whose version it is.
            version: that is decided on.
            verdict: `promoted` and `rolled back` make it the champion, `refused` does not.
            reason: for people.
            at: UTC.
            gates: their figures, for JSON.
            manifest_sha256: of the version's manifest; "" where it is not known.
            instead_of: the champion that it was compared with, and the reason for which it is refused
                where another is champion by now; None where it does not matter.

        Returns:
            whether the decision stands as it was given.
        """
        with self._database.write() as connection:
            former, _ = _newest_promotion(connection, city)
            stands = instead_of is None or verdict == REFUSED or former == instead_of[0]
            if instead_of is not None and not stands:
                verdict, reason = REFUSED, instead_of[1]
            connection.execute(
                sa.insert(JUDGEMENT).values(
                    **{"city": city.name, "at": as_second(at), "version": version},
                    **{"champion": former or "", "verdict": verdict, "reason": reason},
                    gates=json.dumps(dict(gates or {})),
                    manifest_sha256=manifest_sha256,
                )
            )
            if verdict != REFUSED and version != former:
                _insert_promotion(connection, city, as_second(at), version, reason)
        return stands

    def decisions(self, city: City) -> pd.DataFrame:
        """Returns the decisions, oldest first.

        Its columns are `at` (UTC), `version`, `champion` (before it, "" without one),
        `verdict`, `gates` (dicts) and `reason`.
        """
        query = sa.select(JUDGEMENT).where(JUDGEMENT.c.city == city.name).order_by(JUDGEMENT.c.id)
        table = self._database.table(query, times=["at"])
        table["gates"] = [json.loads(text) for text in table["gates"]]
        return table.drop(columns=["city", "id", "manifest_sha256"])

    def manifest_sha256(self, city: City, version: str) -> str:
        """Returns the SHA-256 of the manifest at the first decision on a version, "" without one."""
        query = (
            sa.select(JUDGEMENT.c.manifest_sha256)
            .where(JUDGEMENT.c.city == city.name, JUDGEMENT.c.version == version)
            .where(JUDGEMENT.c.manifest_sha256 != "")
            .order_by(JUDGEMENT.c.id)
            .limit(1)
        )
        with self._database.read() as connection:
            return str(connection.execute(query).scalar() or "")

    def promoted_after(self, city: City) -> int:
        """Returns the number of the newest forecast at the time of the last promotion."""
        with self._database.read() as connection:
            return _newest_promotion(connection, city)[1]

    def previous(self, city: City) -> str | None:
        """Returns the version that was champion before the present one, None without one.

        A version that was rolled back does not count, unless it was promoted anew.
        """
        query = (
            sa.select(PROMOTION.c.version)
            .where(PROMOTION.c.city == city.name)
            .order_by(PROMOTION.c.id.desc())
        )
        decided = (
            sa.select(JUDGEMENT.c.verdict, JUDGEMENT.c.version, JUDGEMENT.c.champion)
            .where(JUDGEMENT.c.city == city.name)
            .order_by(JUDGEMENT.c.id)
        )
        bad: set[str] = set()
        with self._database.read() as connection:
            versions = [str(one) for one in connection.execute(query).scalars()]
            for verdict, version, champion in connection.execute(decided):
                if verdict == PROMOTED:
                    bad.discard(version)
                elif verdict == ROLLED_BACK:
                    bad.add(champion)
        return next((one for one in versions if one != versions[0] and one not in bad), None)


def _insert_promotion(
    connection: sa.Connection, city: City, at: int, version: str, reason: str
) -> None:
    """Makes a version the champion within a transaction; `at` in seconds since 1970."""
    newest = sa.select(sa.func.coalesce(sa.func.max(FORECAST.c.id), 0)).where(
        FORECAST.c.city == city.name
    )
    connection.execute(
        sa.insert(PROMOTION).values(
            **{"city": city.name, "at": at, "version": version, "reason": reason},
            forecast=newest.scalar_subquery(),
        )
    )


def _newest_promotion(connection: sa.Connection, city: City) -> tuple[str | None, int]:
    """Returns the champion, and the number of the newest forecast when it was promoted."""
    query = (
        sa.select(PROMOTION.c.version, PROMOTION.c.forecast)
        .where(PROMOTION.c.city == city.name)
        .order_by(PROMOTION.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return (None, 0) if row is None else (str(row.version), int(row.forecast))
