"""A line chart as inline SVG: sharp at every size, and in the colours of the page around it."""

import math
from collections.abc import Mapping, Sequence

from vaegaze.report.markup import Html, element

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 34  # margins, for the ticks' labels
TICKS = 4  # about so many on an axis

Points = Sequence[tuple[float, float]]


def line_chart(title: str, x_label: str, series: Mapping[str, Points]) -> Html:
    """One line per series, of which the second is dashed and dotted; both axes begin at 0."""
    points = [point for each in series.values() for point in each]
    x_ticks, y_ticks = (ticks(max(values)) for values in zip(*points))
    x_end, y_end = max(x for x, _ in points) or 1, y_ticks[-1]

    def place(x: float, y: float) -> tuple[str, str]:
        across, up = (WIDTH - LEFT - RIGHT) * x / x_end, (HEIGHT - TOP - BOTTOM) * y / y_end
        return f"{LEFT + across:.1f}", f"{HEIGHT - BOTTOM - up:.1f}"

    drawn = []
    for y in y_ticks:
        (left, height), (right, _) = place(0, y), place(x_end, y)
        drawn.append(element("line", x1=left, x2=right, y1=height, y2=height, class_="grid"))
        drawn.append(element("text", f"{y:g}", x=LEFT - 6, y=height, dy="0.35em", text_anchor="end"))
    for x in x_ticks:
        if x <= x_end:
            drawn.append(element("text", f"{x:g}", x=place(x, 0)[0], y=HEIGHT - BOTTOM + 14, text_anchor="middle"))
    drawn.append(element("text", x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 4, text_anchor="middle"))
    for number, each in enumerate(series.values()):
        places = [place(x, y) for x, y in each]
        drawn.append(element("polyline", points=" ".join(map(",".join, places)), class_=f"line{number}"))
        if number or len(places) == 1:  # a line of one point would not be seen
            drawn += [element("circle", cx=x, cy=y, r=3, class_=f"dot{number}") for x, y in places]
    words = ", ".join(f"{name} from {each[0][1]:.4g} to {each[-1][1]:.4g}" for name, each in series.items() if each)
    return element("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{title}: {words}")


def ticks(largest: float) -> list[float]:
    """0 and round numbers, the last of which reaches `largest`."""
    if largest <= 0:
        return [0, 1]
    rough = largest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 12) for i in range(math.ceil(largest / step - 1e-9) + 1)]
