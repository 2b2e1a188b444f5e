"""What stands behind ``covertreex bench``: speeds with their recall beside them, and a yardstick from the same run.

`suites` says what is asked, `entrants` and `peers` who answers, `measure` how it is timed and checked. `verdicts` turns
figures into ratios and compares them with what is wanted; `results` judges, writes and reads a whole run. `grids`,
`pictures` and `page` show it. What passes between them, and into files, is plain dictionaries (`measure.measure`).
"""
