"""The claim of a server's home: made, kept, and deleted only when nobody else needs it."""

from __future__ import annotations

from typing import Any

from spawner.home_claim import ensure_claim, names_person, names_server
from spawner.kube_access import KubeAccess
from spawner.refusal import Refusal

__all__ = ["KubeHome"]


class KubeHome(KubeAccess):
    """What a server has to do with claims."""

    def claim_names(self) -> list[str]:
        """Return the names that the home's claim may have, best first; none where homes are no claims."""
        if not self.storage_pvc_ensure:
            return []
        names = [self.pvc_name]
        if self.handle_legacy_names and not self._pvc_exists and self._state_kubespawner_version == "unknown":
            names.append(self._expand_user_properties(self.pvc_name_template, slug_scheme="escape"))
        return list(dict.fromkeys(names))

    async def ensure_home(self, candidates: list[str]) -> None:
        """See that the claim exists, and remember its name.

        Raises
        ------
        Refusal
            With the cause in plain words.
        """

        def manifest(name: str) -> Any:
            self.pvc_name = name
            return self.get_pvc_manifest()

        self.pvc_name = await ensure_claim(
            self.kube(),
            self.namespace,
            candidates,
            manifest=manifest,
            known=self._pvc_exists,
            say=self.feed.say,
        )
        self._pvc_exists = True

    async def rename(self, old_name: str, new_name: str) -> None:
        """Refuse to rename a server whose home bears its name: the next server of the old name would share it.

        Raises
        ------
        Refusal
            The home has the name in it.
        """
        if self.storage_pvc_ensure and self._pvc_exists and names_server(self.pvc_name_template):
            text = f"The server {old_name!r} cannot be renamed, because its home has the same name. Make a new server."
            raise Refusal("rename", text, status=409)

    async def delete_forever(self) -> None:
        """Delete the home if that is wanted, and only if nobody else's server lies on it (kubespawner#880)."""
        template = self.pvc_name_template
        own = names_server(template) if self.name else names_person(template)
        if not self.delete_pvc or not self.storage_pvc_ensure or not own:
            self.log.info("%s: the home %s is kept", self._log_name, self.pvc_name)
            return
        await self.kube().delete_claim(self.namespace, self.pvc_name)
