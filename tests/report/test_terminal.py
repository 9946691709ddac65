from tunetrade.report.leaderboard import overall_rows
from tunetrade.report.load import read_study
from tunetrade.report.terminal import WIDTH, summary


def test_every_method_has_a_line_and_the_lines_fit(study_folder):
    lines = summary(study_folder).splitlines()
    rows = overall_rows(read_study(study_folder))
    assert [line.split()[0] for line in lines[1 : len(rows) + 1]] == [row.method for row in rows]
    assert max(map(len, lines)) <= WIDTH
