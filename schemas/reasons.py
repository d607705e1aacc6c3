"""Every code an outcome or a dead letter can carry, with its message in Chinese and English.

The Chinese text is the operating manual's own prompt where it has one. The order of `REASONS` is
part of the stored state (a person's memory keeps a code by its number): append, never reorder.
"""

from typing import Final, NamedTuple


class Reason(NamedTuple):
    """What a code says to people: `zh` for the portal, `en` for operators and logs."""

    zh: str
    en: str


ACCEPTED: Final = "accepted"
AWAITING_VERIFICATION: Final = "awaiting_verification"

REASONS: Final[dict[str, Reason]] = {
    # accepted
    ACCEPTED: Reason("操作成功", "Accepted."),
    AWAITING_VERIFICATION: Reason(
        "无需重复登记，大数据中心批量处理后即可用工登记成功",
        "Accepted and parked until the centre has verified the identity; do not send it again.",
    ),
    # always first
    "id_reused": Reason("编号已被使用", "This id already stands for something else."),
    "from_the_future": Reason(
        "操作时间超前，请校准设备时钟", "The time is more than 5 minutes ahead; check the clock."
    ),
    "too_late": Reason("超过7天，不再受理", "The time is too far back: more than 7 days."),
    "not_authorized": Reason("无权进行此操作", "The sender may not do this."),
    "too_many": Reason("待确认的聘用过多", "The person has too many open offers."),
    # identity
    "notice_not_accepted": Reason(
        "请勾选我已阅读以上填报须知", "The notice must be read and accepted first."
    ),
    "already_verified": Reason("个人信息已登记成功", "The identity is already verified."),
    "identity_not_registered": Reason(
        "未完成个人信息登记，请先在随申办市民云APP登记",
        "The person has not registered an identity yet.",
    ),
    # offers and employment
    "employer_unknown": Reason("用人单位不存在", "The employer is not on record."),
    "employer_suspended": Reason("用人单位已停用", "The employer is suspended."),
    "name_mismatch": Reason("姓名与证件号不一致", "The name does not match the identity."),
    "under_age": Reason("未满18周岁，不得聘用", "The person is under 18."),
    "over_age": Reason("超过规定年龄，不得聘用", "The person is over the age limit for hiring."),
    "already_employed_here": Reason("该人员已被本单位聘用", "The person is already employed here."),
    "duplicate_registration": Reason("重复登记", "This employer already has an open offer."),
    "employed_elsewhere": Reason(
        "在另外一家单位未离职", "The person has not left another employer."
    ),
    "offer_not_open": Reason("聘用待确认记录不存在或已失效", "The offer is not open."),
    "not_employed_here": Reason("该人员未被本单位聘用", "The person is not employed here."),
    "trade_required": Reason("请选择工种", "A worker needs a trade."),
    "position_required": Reason("请选择岗位", "A manager needs a position."),
    "exit_first": Reason(
        "请先退场并取消项目分配，再变更身份",
        "The role cannot change while the person is assigned or present.",
    ),
    # dismissal and departure
    "reason_required": Reason("请输入解聘原因", "A dismissal needs a reason."),
    "already_pending": Reason("已有待处理的申请", "The same request is already pending."),
    "manager_on_site": Reason(
        "管理员身份需在工地端先完成退场", "A manager must exit the site first."
    ),
    "nothing_pending": Reason("没有待处理的申请", "Nothing is pending."),
    # assignment
    "not_employed": Reason("该人员未被聘用", "The person is employed by nobody."),
    "registration_incomplete": Reason(
        "请先完善建筑工人信息", "The employer has not completed the registration."
    ),
    "site_unknown": Reason("工地不存在", "The site is not on record."),
    "site_closed": Reason("工地已停工或竣工", "The site is suspended or completed."),
    "employer_not_on_site": Reason(
        "用人单位不是该工地的参建单位", "The employer is not a participant of the site."
    ),
    "not_the_named_manager": Reason(
        "该人员不是工地登记的项目经理",
        "The site's record names another project manager for this employer.",
    ),
    "already_assigned": Reason("该人员已被分配到项目", "The person already has an assignment."),
    "assignment_not_pending": Reason("没有待确认的人员分配", "No such assignment is pending."),
    # operators
    "manager_required": Reason("仅管理员可被授权", "Only a manager can be authorised."),
    "assignment_not_confirmed": Reason(
        "该人员未分配确认", "The person's assignment is not confirmed."
    ),
    "already_authorized": Reason("该人员已被授权", "The person is already an operator."),
    "not_authorized_before": Reason("该人员未被授权", "The person is not an operator."),
    # entry
    "code_invalid": Reason("二维码无效", "The code is not one of ours."),
    "code_expired": Reason("二维码已过期，请刷新后重试", "The code is out of its time window."),
    "code_not_this_person": Reason("建设码与本人不符", "The code belongs to another person."),
    "code_replayed": Reason("建设码已使用，请刷新后重试", "The code was already used for entry."),
    "project_manager_required": Reason(
        "需由工地端的项目经理操作", "A project manager of the site is required."
    ),
    "general_contractor_required": Reason(
        "需由施工总包的项目经理操作", "The general contractor's project manager is required."
    ),
    "wrong_site": Reason("不是本工地人员", "The person belongs to another site."),
    "already_present": Reason("该人员已进场", "The person is already present."),
    "entry_not_pending": Reason("没有待处理的进场登记", "No such entry is waiting."),
    # attendance and exit
    "operator_required": Reason(
        "需由项目经理或授权的管理员操作", "An authorised operator of the site is required."
    ),
    "not_present": Reason("该人员未进场", "The person is not present at the site."),
    "exit_not_pending": Reason("请先进行退场登记", "The exit has not been registered."),
    # cannot be a command at all: dead letters
    "too_large": Reason("消息过大", "The value is larger than 65,536 bytes."),
    "not_json": Reason("消息不是JSON", "The value is not JSON."),
    "not_an_envelope": Reason("消息格式不符合CloudEvents", "The value is not a CloudEvent."),
    "unknown_type": Reason("未知的消息类型", "The type is not a command."),
    "wrong_topic": Reason("消息发错了主题", "This type belongs on another topic."),
    "key_mismatch": Reason("消息键与主体不一致", "The record key is not the subject."),
    "wrong_partition": Reason(
        "消息分区不正确，请使用murmur2分区器",
        "Another partitioner placed this record; use murmur2.",
    ),
    "data_invalid": Reason("消息内容不符合要求", "The data does not have the form of its type."),
}

DEAD_LETTER_CODES: Final = (
    "too_large",
    "not_json",
    "not_an_envelope",
    "unknown_type",
    "wrong_topic",
    "key_mismatch",
    "wrong_partition",
    "data_invalid",
)
"""In the order in which they are checked."""

OUTCOME_CODES: Final = tuple(code for code in REASONS if code not in DEAD_LETTER_CODES)
NUMBER_OF: Final = {code: number for number, code in enumerate(REASONS)}
CODE_AT: Final = tuple(REASONS)
