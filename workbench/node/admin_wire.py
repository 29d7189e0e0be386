"""Names of the Admin service's methods, for both ends."""

from __future__ import annotations

from typing import Final

TRANSFER_LEADER: Final = "/workbench.admin.v1.Admin/TransferLeader"
CHANGE_MEMBERS: Final = "/workbench.admin.v1.Admin/ChangeMembers"
GET_MEMBERS: Final = "/workbench.admin.v1.Admin/GetMembers"
SET_PEER: Final = "/workbench.admin.v1.Admin/SetPeer"
