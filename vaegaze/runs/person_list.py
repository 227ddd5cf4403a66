"""Which persons of a data set a cohort covers."""

from pathlib import Path

from vaegaze.config.cohort import CohortParams
from vaegaze.data import hdf5
from vaegaze.data.persons import opened_person
from vaegaze.data.safe_hdf5 import plain_attributes
from vaegaze.errors import UserError
from vaegaze.files import ignores_case, spelling_among
from vaegaze.runs.folder import folder_name

MAX_LIST_BYTES = 64 * 2**20


def persons_to_run(hdf_path: str, cohort: CohortParams) -> list[str]:
    """Ids in the order of the data set, or of the list that was given. UserError if there is nobody.

    A person without usable samples is among them, so that the failure gets recorded.
    """
    known = list(hdf5.person_counts(hdf_path))
    if cohort.persons is not None:
        chosen = [name.strip() for name in cohort.persons.split(",") if name.strip()]
        chosen = _known(chosen, known, hdf_path, "persons")
    elif cohort.persons_file is not None:
        lines = _lines(Path(cohort.persons_file))
        chosen = [line.strip() for line in lines if line.strip()]
        chosen = _known(chosen, known, hdf_path, "persons_file")
    elif cohort.split is not None:
        chosen = [person_id for person_id in known if _is_in_split(hdf_path, person_id, cohort.split)]
        if not chosen:
            raise UserError(f"split: no person of {hdf_path} has the attribute split = {cohort.split!r}")
    else:
        chosen = known
    if not chosen:
        raise UserError("persons: the list is empty; expected at least one id", about="persons")
    return list(dict.fromkeys(chosen))[: cohort.max_persons]


def _lines(path: Path) -> list[str]:
    if path.is_dir():
        raise UserError(f"persons_file: {path} is a folder; expected a text file with an id on each line")
    with open(path, "rb") as file:  # a pipe may be endless
        content = file.read(MAX_LIST_BYTES + 1)
    if len(content) > MAX_LIST_BYTES:
        raise UserError(f"persons_file: {path} is larger than {MAX_LIST_BYTES >> 20} MB; expected an id on each line")
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"persons_file: {path} is not a text file; expected an id on each line") from error


def _known(chosen: list[str], known: list[str], hdf_path: str, setting: str) -> list[str]:
    """The chosen ids as the data set spells them. UserError for one that it lacks."""
    chosen = list(map(spelling_among(known), chosen))
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise UserError(
            f"{setting}: {', '.join(map(repr, unknown[:3]))}{more} not in {hdf_path}, which has {len(known)} persons",
            about="persons",
        )
    return chosen


def refuse_shared_folders(person_ids: list[str], save_dir: Path) -> None:
    """UserError if two ids differ only in letter case and the disk would give them one folder."""
    seen: dict[str, str] = {}
    for person_id in person_ids:
        other = seen.setdefault(folder_name(person_id).lower(), person_id)
        if other != person_id and ignores_case(save_dir):
            raise UserError(
                f"persons: {other!r} and {person_id!r} differ only in letter case and would share a folder "
                f"in {save_dir}",
                about="letter_case",
            )


def _is_in_split(hdf_path: str, person_id: str, split: str) -> bool:
    """Also for a person that cannot be opened, so that the failure gets recorded."""
    try:
        with opened_person(hdf_path, person_id) as (group, _):
            return str(plain_attributes(group, ("split",)).get("split")) == split
    except (UserError, OSError):
        return True
