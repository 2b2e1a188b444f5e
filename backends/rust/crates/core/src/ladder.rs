//! The budget ladder: how many evaluations a search may spend, by what they yield.

use crate::contract::Counters;
use crate::views::Settings;

pub(crate) struct Ladder {
    rung: usize,
    evals: i64,
    yields: i64,
    grace: bool,
}

impl Ladder {
    pub fn new() -> Ladder {
        Ladder { rung: 0, evals: 0, yields: 0, grace: true }
    }

    /// Judge the current rung if it has ended; say whether the search must stop.
    #[inline]
    pub fn stops(&mut self, settings: &Settings, counters: &mut Counters) -> bool {
        match settings.budget_schedule.get(self.rung) {
            Some(&allowed) if counters.distance_evals >= allowed => self.judge(settings, counters),
            _ => false,
        }
    }

    fn judge(&mut self, settings: &Settings, counters: &mut Counters) -> bool {
        if self.rung + 1 == settings.budget_schedule.len() {
            return true;
        }
        let evals = counters.distance_evals - self.evals;
        // A tile can end two rungs at once, and the next evaluate nothing: there is nothing to judge the second by.
        if evals > 0 {
            let share = (counters.yields - self.yields) as f64 / evals as f64;
            if share < settings.budget_down {
                return true;
            }
            if share < settings.budget_up && !std::mem::replace(&mut self.grace, false) {
                return true;
            }
        }
        counters.budget_escalations += 1;
        *self =
            Ladder { rung: self.rung + 1, evals: counters.distance_evals, yields: counters.yields, grace: self.grace };
        false
    }
}
