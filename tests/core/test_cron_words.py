"""Cron expressions in plain words, held against what they mean."""

from __future__ import annotations

import pytest

from duly.core.trigger import cron

WORDS = {
    "0 * * * *": "every hour",
    "1 * * * *": "at minute 1 of every hour",
    "10 5 * * * *": "at minute 5, second 10 of every hour",
    "0 5 * * * *": "at minute 5 of every hour",
    "30 0 0 * * *": "at 00:00:30, UTC",
    "1 0 * * * *": "at minute 0, second 1 of every hour",
    "* * * * * *": "every second",
    "*/30 * * * * *": "every 30 seconds",
    "*/30 * * * *": "every 30 minutes",
    "10-40/10 * * * *": "at every 10th minute from 10 through 40 of the hour",
    "1-59/2 * * * *": "at every 2nd minute from 1 through 59 of the hour",
    "1-59/3 * * * *": "at every 3rd minute from 1 through 58 of the hour",
    "*/2 * * * *": "every 2 minutes",
    "*/3 * * * *": "every 3 minutes",
    "*/7 * * * *": "at every 7th minute from 0 through 56 of the hour",
    "*/8 * * * *": "at every 8th minute from 0 through 56 of the hour",
    "*/9 * * * *": "at every 9th minute from 0 through 54 of the hour",
    "*/11 * * * *": "at every 11th minute from 0 through 55 of the hour",
    "*/12 * * * *": "every 12 minutes",
    "*/13 * * * *": "at every 13th minute from 0 through 52 of the hour",
    "*/18 * * * *": "at every 18th minute from 0 through 54 of the hour",
    "*/19 * * * *": "at every 19th minute from 0 through 57 of the hour",
    "*/20 * * * *": "every 20 minutes",
    "5,10 * * * *": "at minutes 5 and 10 of the hour",
    "5,6 * * * *": "at minutes 5 and 6 of the hour",
    "5,6,7 * * * *": "at minutes 5 through 7 of the hour",
    "5,7,9 * * * *": "at minutes 5, 7 and 9 of the hour",
    "5,7,9,11 * * * *": "at every 2nd minute from 5 through 11 of the hour",
    "5,7,9,12 * * * *": "at minutes 5, 7, 9 and 12 of the hour",
    "0 */3 * * *": "every 3 hours, UTC",
    "0 */8 * * *": "every 8 hours, UTC",
    "0 0,12 * * *": "every 12 hours, UTC",
    "0 12 * * *": "at 12:00, UTC",
    "0 0 * * *": "at 00:00, UTC",
    "5 */3 * * *": "every 3 hours from 00:05 through 21:05, UTC",
    "5 0 */3 * * *": "every 3 hours from 00:00:05 through 21:00:05, UTC",
    "0 1-22/3 * * *": "every 3 hours from 01:00 through 22:00, UTC",
    "0 1/5 * * *": "every 5 hours from 01:00 through 21:00, UTC",
    "0 9-11 * * *": "at 09:00, 10:00 and 11:00, UTC",
    "0 9-12 * * *": "every hour from 09:00 through 12:00, UTC",
    "15 9-12 * * *": "every hour from 09:15 through 12:15, UTC",
    "30 15 9-12 * * *": "every hour from 09:15:30 through 12:15:30, UTC",
    "0 8-14/2 * * *": "every 2 hours from 08:00 through 14:00, UTC",
    "0 8,10,12 * * *": "at 08:00, 10:00 and 12:00, UTC",
    "0 8,10,13 * * *": "at 08:00, 10:00 and 13:00, UTC",
    "0,30 8,9,10 * * *": "at 08:00, 08:30, 09:00, 09:30, 10:00 and 10:30, UTC",
    "0,30 8,9,10,11 * * *": "every 30 minutes, during hours 8 through 11, UTC",
    "0,20,40 9,18 * * *": "at 09:00, 09:20, 09:40, 18:00, 18:20 and 18:40, UTC",
    "5,10 0,1,2 * * *": "at 00:05, 00:10, 01:05, 01:10, 02:05 and 02:10, UTC",
    "*/5 9 * * *": "every 5 minutes, during hour 9, UTC",
    "*/5 9,10 * * *": "every 5 minutes, during hours 9 and 10, UTC",
    "* 9-17 * * *": "every minute, during hours 9 through 17, UTC",
    "* */2 * * *": "every minute, during every 2nd hour from 0 through 22, UTC",
    "0,30 */2 * * *": "every 30 minutes, during every 2nd hour from 0 through 22, UTC",
    "0,30 * * * *": "every 30 minutes",
    "*/10 30 * * * *": "every 10 seconds, during minute 30",
    "*/10 30,31 9 * * *": "every 10 seconds, during minutes 30 and 31, during hour 9, UTC",
    "10,20 0 9 * * *": "at seconds 10 and 20 of the minute, during minute 0, during hour 9, UTC",
    "10,20 0 * * * *": "at seconds 10 and 20 of the minute, during minute 0",
    "10 0,30 9 * * *": "at 09:00:10 and 09:30:10, UTC",
    "0 10-20 9 * * *": "at minutes 10 through 20 of the hour, during hour 9, UTC",
    "0 9 L * *": "at 09:00 on the last day of the month, UTC",
    "0 9 L-1 * *": "at 09:00 on the last day but 1 of the month, UTC",
    "0 9 L-3,L * *": "at 09:00 on the last day and the last day but 3 of the month, UTC",
    "0 9 1,15 * *": "at 09:00 on days 1 and 15 of the month, UTC",
    "0 9 1-7 * *": "at 09:00 on days 1 through 7 of the month, UTC",
    "0 9 1-3 * *": "at 09:00 on days 1 through 3 of the month, UTC",
    "0 9 */10 * *": "at 09:00 on every 10th day from 1 through 31 of the month, UTC",
    "0 9 1,L * *": "at 09:00 on day 1 and the last day of the month, UTC",
    "0 9 LW * *": "at 09:00 on the last weekday of the month, UTC",
    "0 9 15W,1W * *": "at 09:00 on the weekday nearest to day 1 and the weekday nearest to day 15 of the month, UTC",
    "0 9 ? * FRI#2,MON#2,SUN#2": (
        "at 09:00 on the second Monday of the month, the second Friday of the month and the second Sunday of "
        "the month, UTC"
    ),
    "0 9 ? * 5L,5#1,5#3,5#4,5#5": (
        "at 09:00 on the first Friday of the month, the third Friday of the month, the fourth Friday of the "
        "month, the fifth Friday of the month and the last Friday of the month, UTC"
    ),
    "0 9 * * SUN": "at 09:00 on Sunday, UTC",
    "0 9 * * SAT-MON": "at 09:00 on Monday, Saturday and Sunday, UTC",
    "0 9 * * MON,WED": "at 09:00 on Monday and Wednesday, UTC",
    "0 9 * * MON,TUE": "at 09:00 on Monday and Tuesday, UTC",
    "0 9 * * MON-WED": "at 09:00 on Monday through Wednesday, UTC",
    "0 9 * * MON,WED,FRI": "at 09:00 on Monday, Wednesday and Friday, UTC",
    "0 9 * * TUE,2#3": "at 09:00 on Tuesday and the third Tuesday of the month, UTC",
    "0 9 * * 0-6": "at 09:00, UTC",
    "0 9 1-31 * *": "at 09:00, UTC",
    "0 9 13 * FRI": "at 09:00 on day 13 of the month or on Friday, UTC",
    "0 9 */2 * MON": "at 09:00 on every 2nd day from 1 through 31 of the month, if it is Monday, UTC",
    "0 9 * 1 *": "at 09:00 in January, UTC",
    "0 9 * JAN,FEB *": "at 09:00 in January and February, UTC",
    "0 9 * JAN-MAR *": "at 09:00 in January through March, UTC",
    "0 9 * JAN,MAR,MAY *": "at 09:00 in January, March and May, UTC",
    "0 9 * FEB,APR,JUN,JUL,AUG,SEP,OCT,NOV,DEC *": (
        "at 09:00 in February, April, June, July, August, September, October, November and December, UTC"
    ),
    "* * * 5 *": "every minute in May, UTC",
    "* * 1 * *": "every minute on day 1 of the month, UTC",
    "* * * * MON": "every minute on Monday, UTC",
    "*/5 0-22 * * *": "every 5 minutes, during hours 0 through 22, UTC",
    "0 9 1-31 * MON": "at 09:00, UTC",
    "0 9 13 * 0-6": "at 09:00, UTC",
    "0 9 * * MON#1": "at 09:00 on the first Monday of the month, UTC",
}


@pytest.mark.parametrize(("expression", "words"), WORDS.items())
def test_an_expression_says_when_it_fires(expression: str, words: str) -> None:
    assert cron(expression).describe() == words


def test_the_words_of_days_that_are_every_day_are_true() -> None:
    """Two restricted day fields are joined by "or": where one of them is every day, so is the expression."""
    daily = cron("0 9 * * *")
    for same in ("0 9 1-31 * MON", "0 9 13 * 0-6"):
        assert list(cron(same).moments(0, 40 * 86_400_000)) == list(daily.moments(0, 40 * 86_400_000))
        assert cron(same).describe() == daily.describe()


def test_a_zone_is_named_only_where_it_makes_a_difference() -> None:
    for anywhere in ("* * * * *", "30 * * * *", "*/10 * * * * *"):
        assert cron(anywhere, timezone="Europe/Paris").describe() == cron(anywhere).describe()
    for bound in ("0 9 * * *", "* 0-22 * * *", "* * 1 * *", "* * * 1 *", "* * * * MON"):
        assert cron(bound, timezone="Europe/Paris").describe().endswith(", Europe/Paris")
