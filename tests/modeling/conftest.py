from collections import Counter


def pytest_terminal_summary(terminalreporter):
    """The comparisons with the released implementation's reference files, if any were made."""
    from tests.modeling import golden

    if not golden.MEASURED:
        return
    write = terminalreporter.write_line
    terminalreporter.section("agreement with the released implementation")
    width = max(len(entry) for entry, *_ in golden.MEASURED)
    write(f"{'case/entry':{width}}  max difference  x tolerance")
    worst = {}
    for entry, found, allowed in golden.MEASURED:
        share = found / allowed
        write(f"{entry:{width}}  {found:14.2e}  {share:11.4f}")
        case = entry.partition("/")[0]
        worst[case] = max(worst.get(case, (0.0, "")), (share, entry))
    count = Counter(entry.partition("/")[0] for entry, *_ in golden.MEASURED)
    for case, (share, entry) in worst.items():
        write(f"{case}: {count[case]} compared, worst {share:.4f} x tolerance ({entry})")
