"""Who plays: three hundred people, their firms and sites, all made up from a seed.

The same seed and day give the same people, secrets and therefore partitions, so that two plays can
be compared. Every ID number and credit code is valid in form and belongs to nobody on purpose.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Any, Final, Literal

from demo.calendar import Calendar
from deployment.sealing import KeyPair, make_key_pair, seal
from rules.calendar import shanghai_date
from schemas.identifiers import make_id_number, make_uscc, name_tag, person_id
from schemas.limits import OPEN_OFFERS_MAX

SEED: Final = 2026
PEOPLE: Final = 300
WORKERS: Final = 240

Sex = Literal["male", "female"]

_SURNAMES: Final = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程"
    "魏苏吕丁任卢姚沈钟姜崔谭陆汪范金石廖贾夏韦付方邹熊孟秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵"
)
_GIVEN: Final[dict[Sex, tuple[str, str]]] = {
    "male": (
        "建国志文永德金春海立玉晓家宏长光国明世正大新忠庆东天",
        "军平强华明辉勇刚林斌峰波涛伟杰亮生福根贵祥龙宝柱良才兵",
    ),
    "female": (
        "秀桂春玉小丽美雅文晓海月金红淑慧彩雪爱",
        "英兰珍芳霞梅娟燕萍红琴云莲凤丽玲华香菊",
    ),
}

TRADES: Final = {
    "010": "砌筑工",
    "020": "钢筋工",
    "030": "架子工",
    "040": "混凝土工",
    "050": "模板工",
    "080": "安装起重工",
    "100": "电气设备安装调试工",
    "110": "管道工",
    "130": "建筑电工",
    "270": "电焊工",
}
"""National codes 工种 of the trades that the play needs."""


@dataclass(frozen=True, slots=True)
class Firm:
    """An employer on the register; `short` for tables."""

    uscc: str
    name: str
    short: str
    participant: str = ""
    """What it is on the play's sites; blank when it is on none."""

    @property
    def source(self) -> str:
        return f"/employers/{self.uscc}"


@dataclass(frozen=True, slots=True)
class Person:
    """One of the cast. `handle` names the person in the play and is the same in every play, which
    the person id, made of a birth date, is not."""

    number: int
    handle: str
    name: str
    id_number: str = field(repr=False)
    id: str
    name_tag: str
    birth_date: str
    sex: Sex
    sealed: str = field(repr=False)
    firm: Firm
    site: str
    trade: str | None = None
    position: str | None = None

    @property
    def source(self) -> str:
        return f"/persons/{self.id}"

    def staff(self, site: str) -> str:
        """The source with which the person acts for a site."""
        return f"/sites/{site}/staff/{self.id}"

    def every(self, period: int, rest: int) -> bool:
        """A fixed share of the people, spread evenly: one in `period`."""
        return self.number % period == rest


HOUSES: Final = "SH-PD-0101"
PLANT: Final = "SH-LG-0202"
BRIDGE: Final = "SH-MH-0303"
SCHOOL: Final = "SH-JD-0404"
SITES: Final = {
    HOUSES: "浦东示范住宅项目",
    PLANT: "临港示范厂房项目",
    BRIDGE: "闵行示范桥梁项目（已竣工）",
    SCHOOL: "嘉定示范学校项目",
}
"""The first two are played on; the third is completed, and none of the firms is on the fourth."""

PLAYED: Final = (HOUSES, PLANT)

EXTRAS: Final = (
    "stranger",  # never uploads anything
    "minor",  # seventeen
    "pensioner",  # a man of sixty
    "grandmother",  # a woman of fifty
    "sixty",  # turns sixty on the fourth day, on site
    "misspelt",  # the employer types another name
    "mistyped",  # so did the person, and corrects it while an offer is parked
    "master",  # whom every firm at the job fair wants
    "candidate",  # whose firm is suspended while the offer waits
    "orphan",  # employed by a firm that is dissolved
    "crossed",  # confirms an offer just withdrawn
    "courted",  # confirms two offers at once
    "impatient",  # sends everything three times
    "victim",  # for whom others try to speak
    "clockwork",  # whose devices show other times
    "undecided",  # leaves an offer open
    "hasty",  # is assigned before everything else is done
    "clerk",  # changes from worker to manager
    "latecomer",  # comes to the gate in every wrong way
    "visitor",  # scans the wrong things at the wrong places
    "homebody",  # assigned, and never comes
    "leaver",  # asks to leave and takes it back
    "quarrel",  # dismissed and leaving at the same time
    "returner",  # leaves and is hired again on the same day
    "inspector",  # a manager on site who is to be dismissed
    "successor",  # becomes project manager in another's place
    "apprentice",  # a manager who is made operator and unmade
    "garbled",  # whose terminal sends what is no command
    "sleeper",  # forgets to exit
    "doubtful",  # identity fails, and is not uploaded again
)
"""People to whom everything happens that can go wrong, by what they are in the play."""

MANAGERS: Final = ("安全员", "质量员", "施工员", "资料员", "材料员", "劳资专管员", "机械员")

_FAIR: Final = OPEN_OFFERS_MAX + 1


@dataclass(frozen=True, slots=True)
class Cast:
    """Everyone and everything in the play."""

    calendar: Calendar
    person_secret: bytes = field(repr=False)
    code_keys: Mapping[int, bytes] = field(repr=False)
    sealing: KeyPair = field(repr=False)
    people: tuple[Person, ...]
    firms: Mapping[str, Firm]
    fair: tuple[Firm, ...]
    """Firms of the job fair, one more than a person may have offers."""
    unregistered: Firm
    """A firm that is on no register."""

    @property
    def by_id(self) -> dict[str, Person]:
        return {person.id: person for person in self.people}

    @property
    def chiefs(self) -> dict[tuple[str, str], Person]:
        """The named project managers by (site, short name of the firm)."""
        return {
            (person.site, person.firm.short): person
            for person in self.people
            if person.handle.startswith("P")
        }

    @property
    def managers(self) -> tuple[Person, ...]:
        """The other managers of the two sites."""
        return tuple(person for person in self.people if person.handle.startswith("M"))

    @property
    def workers(self) -> tuple[Person, ...]:
        return tuple(person for person in self.people if person.handle.startswith("W"))

    @property
    def newcomers(self) -> tuple[Person, ...]:
        """Workers who come on the second day from another firm."""
        return tuple(person for person in self.people if person.handle.startswith("N"))

    def extra(self, part: str) -> Person:
        """Who plays one of `EXTRAS`."""
        return next(person for person in self.people if person.handle == part)


def make_cast(calendar: Calendar, seed: int = SEED) -> Cast:
    """The cast of a play that begins at `calendar.now_ms`."""
    return _Casting(calendar, seed).make()


class _Casting:
    def __init__(self, calendar: Calendar, seed: int) -> None:
        self._calendar = calendar
        self._random = Random(seed)
        self._secret = hashlib.sha256(f"realname demo {seed} persons".encode()).digest()
        self._code_keys = {
            key: hashlib.sha256(f"realname demo {seed} codes {key}".encode()).digest()
            for key in (1, 2)
        }
        self._sealing = make_key_pair()
        self._people: list[Person] = []

    def make(self) -> Cast:
        firms = {
            "总包": self._firm("浦江示范建设集团有限公司", "总包", "general_contractor"),
            "专业": self._firm("申示范机电安装有限公司", "专业", "professional_subcontractor"),
            "劳务": self._firm("沪示范建筑劳务有限公司", "劳务", "labor_subcontractor"),
            "市政": self._firm("外埠示范市政工程有限公司", "市政"),
            "停业": self._firm("示范停业装饰有限公司", "停业"),
            "注销": self._firm("示范注销建材有限公司", "注销"),
        }
        fair = tuple(
            self._firm(f"示范招聘会第{number}建筑公司", f"会{number}")
            for number in range(1, _FAIR + 1)
        )
        main, special, labour = firms["总包"], firms["专业"], firms["劳务"]
        for site in PLAYED:
            for firm in (main, special, labour):
                self._add(f"P{len(self._people) + 1:03}", firm, site, position="project_manager")
        for site in PLAYED:
            for firm, position in zip(
                (main, special, main, main, main, labour, special), MANAGERS, strict=True
            ):
                self._add(f"M{len(self._people) + 1:03}", firm, site, position=position)
        for number in range(WORKERS):
            site = PLAYED[number % 9 % 2]
            firm, trades = (
                (labour, ("010", "020", "030", "040", "050")),
                (labour, ("020", "040", "050")),
                (special, ("100", "110", "130", "080")),
                (labour, ("010", "030")),
                (main, ("080", "270")),
            )[number % 5]
            trade = trades[number // 5 % len(trades)]
            self._add(f"W{len(self._people) + 1:03}", firm, site, trade=trade)
        while len(self._people) < PEOPLE - len(EXTRAS):
            self._add(f"N{len(self._people) + 1:03}", labour, HOUSES, trade="020")
        for part in EXTRAS:
            self._extra(part, firms)
        return Cast(
            self._calendar,
            self._secret,
            self._code_keys,
            self._sealing,
            tuple(self._people),
            firms,
            fair,
            self._firm("示范未登记建筑公司", "未登记"),
        )

    def _firm(self, name: str, short: str, participant: str = "") -> Firm:
        return Firm(make_uscc(self._random), name, short, participant)

    def _extra(self, part: str, firms: Mapping[str, Firm]) -> None:
        first_day = shanghai_date(self._calendar.start_ms)
        years = {"minor": 17, "pensioner": 60, "grandmother": 50}.get(part)
        born = None
        if years is not None:
            born = first_day - timedelta(days=365 * years + 200)
        elif part == "sixty":
            fourth_day = first_day + timedelta(days=3)
            born = fourth_day.replace(year=fourth_day.year - 60)
        firm = {"successor": "专业", "inspector": "总包", "apprentice": "专业"}.get(part, "劳务")
        position = {"successor": "施工员", "inspector": "安全员", "apprentice": "机械员"}.get(part)
        self._add(
            part,
            firms[firm],
            HOUSES,
            trade=None if position else "010",
            position=position,
            born=born,
            sex="female" if part == "grandmother" else "male",
        )

    def _add(
        self,
        handle: str,
        firm: Firm,
        site: str,
        *,
        trade: str | None = None,
        position: str | None = None,
        born: date | None = None,
        sex: Sex | None = None,
    ) -> None:
        random = self._random
        sex = sex or ("female" if random.random() < 0.12 else "male")
        if born is None:
            oldest = 45 if sex == "female" else 56
            days = random.randrange(20 * 365, oldest * 365)
            born = shanghai_date(self._calendar.start_ms) - timedelta(days=days)
        first, second = _GIVEN[sex]
        name = random.choice(_SURNAMES) + random.choice(first)
        if random.random() < 0.8:
            name += random.choice(second)
        id_number = make_id_number(random, born, sex)
        details: dict[str, Any] = {"name": name, "id_number": id_number}
        self._people.append(
            Person(
                number=len(self._people),
                handle=handle,
                name=name,
                id_number=id_number,
                id=person_id(self._secret, id_number),
                name_tag=name_tag(self._secret, name),
                birth_date=born.isoformat(),
                sex=sex,
                sealed=seal(self._sealing.public, details),
                firm=firm,
                site=site,
                trade=trade,
                position=position,
            )
        )
