"""The commands: one model of `data` for each type, and the topic each type belongs on.

Contract: Topics in. A field that the contract lets be blank (`reason`, `trade`, `position`,
`notice_accepted`) is judged by the rules, everything else by these models.
"""

from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from schemas.forms import (
    Absentable,
    Base64,
    Date,
    Direction,
    Form,
    Id,
    NameTag,
    PersonId,
    Position,
    Role,
    Sex,
    Sha256,
    SiteId,
    Text,
    Trade,
    Uscc,
)

_Blank = Annotated[str, StringConstraints(pattern=r"^\s*$")]


class IdentityUpload(Form):
    """A person's identity papers; the details travel only in `sealed` (manual: 一、使用说明)."""

    name_tag: NameTag
    sealed: Base64
    front_sha256: Sha256
    back_sha256: Sha256
    birth_date: Date
    sex: Sex
    notice_accepted: bool | _Blank = False


class IdentityVerify(Form):
    """The centre's result for one person of a batch (manual: 一、使用说明)."""

    batch: Id
    result: Literal["verified", "failed"]
    upload: Absentable[Id] = None
    reason: Absentable[Text] = None


class HireOffer(Form):
    """新建聘用关系 (manual: 二、如何进行用工登记)."""

    employer: Uscc
    name_tag: NameTag


class HireWithdraw(Form):
    """撤回 of an offer that still waits."""

    employer: Uscc
    offer: Id


class HireComplete(Form):
    """完善建筑工人信息: role, and a worker's trade or a manager's position."""

    employer: Uscc
    role: Role
    trade: Absentable[Trade] = None
    position: Absentable[Position] = None


class HireAnswer(Form):
    """The person confirms or refuses an offer."""

    offer: Id


class DismissalRequest(Form):
    """企业发起解聘 (manual: 八、如何操作解聘)."""

    employer: Uscc
    reason: Absentable[Text] = None


class EmployerOnly(Form):
    """What a step about the employment with `employer` needs to say."""

    employer: Uscc


class AssignmentRequest(Form):
    """人员分配 (manual: 三、如何进行分配项目)."""

    site: SiteId
    employer: Uscc
    position: Absentable[Position] = None
    batch: Absentable[Id] = None


class AssignmentWithdraw(Form):
    """Takes an assignment back before the person is present."""

    site: SiteId
    employer: Uscc
    assignment: Id


class AssignmentAnswer(Form):
    """同意 or 拒绝 of an assignment (manual: 四、分配人员确认)."""

    assignment: Id
    site: SiteId
    batch: Absentable[Id] = None


class SiteOnly(Form):
    """What a step at `site` needs to say."""

    site: SiteId


class ScanEntry(Form):
    """进场登记: a personal code shown at the gate (manual: 五、如何操作进场)."""

    site: SiteId
    code: Text
    scanner: PersonId


class ScanAttendance(Form):
    """考勤 by staff, who scan a personal code (manual: 六、如何考勤)."""

    site: SiteId
    code: Text
    scanner: PersonId
    direction: Absentable[Direction] = None


class ScanCheckin(Form):
    """考勤 by the person, who scans the site's code (manual: 六、如何考勤)."""

    site: SiteId
    code: Text
    direction: Absentable[Direction] = None


class EntryProcess(Form):
    """处理, 批量处理 of a waiting entry (manual: 五、如何操作进场)."""

    site: SiteId
    entry: Id
    batch: Absentable[Id] = None


class ExitStep(Form):
    """退场登记, 确认退场 (manual: 七、如何操作退场)."""

    site: SiteId
    batch: Absentable[Id] = None


COMMANDS: Final[dict[str, tuple[str, type[Form]]]] = {
    "identity.upload": ("identity-uploads", IdentityUpload),
    "identity.verify": ("identity-verifications", IdentityVerify),
    "hire.offer": ("hire-requests", HireOffer),
    "hire.withdraw": ("hire-requests", HireWithdraw),
    "hire.complete": ("hire-requests", HireComplete),
    "dismissal.request": ("dismissal-requests", DismissalRequest),
    "dismissal.withdraw": ("dismissal-requests", EmployerOnly),
    "departure.request": ("departure-requests", EmployerOnly),
    "departure.withdraw": ("departure-requests", EmployerOnly),
    "assignment.request": ("assignment-requests", AssignmentRequest),
    "assignment.withdraw": ("assignment-requests", AssignmentWithdraw),
    "operator.authorize": ("authorizations", SiteOnly),
    "operator.revoke": ("authorizations", SiteOnly),
    "hire.confirm": ("confirmations", HireAnswer),
    "hire.refuse": ("confirmations", HireAnswer),
    "dismissal.agree": ("confirmations", EmployerOnly),
    "dismissal.refuse": ("confirmations", EmployerOnly),
    "departure.approve": ("confirmations", EmployerOnly),
    "departure.refuse": ("confirmations", EmployerOnly),
    "assignment.approve": ("confirmations", AssignmentAnswer),
    "assignment.reject": ("confirmations", AssignmentAnswer),
    "scan.entry": ("scan-events", ScanEntry),
    "scan.attendance": ("scan-events", ScanAttendance),
    "scan.checkin": ("scan-events", ScanCheckin),
    "entry.process": ("entry-requests", EntryProcess),
    "entry.self": ("entry-requests", SiteOnly),
    "exit.register": ("exit-requests", ExitStep),
    "exit.confirm": ("exit-requests", ExitStep),
    "exit.self": ("exit-requests", SiteOnly),
}
"""Type → (topic, model of its data)."""
