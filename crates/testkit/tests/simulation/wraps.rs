//! Wrapping tokens give what they hold once at most, and to somebody while they last.

use daypass_base::Entropy;
use daypass_testkit::{Ask, TestServer};
use serde_json::{Value, json};

use crate::deed::{Chosen, Deed, Round, late, pick};
use crate::model::{Model, Span, Uses, Wrapped};
use crate::world::{Heard, Said};

#[derive(Debug)]
pub(crate) struct Wrap {
    value: String,
    ttl: i64,
}

pub(crate) fn wrap(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    Some(Box::new(Wrap { value: format!("w{}", model.number()), ttl: pick(chance, &[60, 600, 7200]) }))
}

impl Deed for Wrap {
    fn asks(&self, _: &Model, server: &TestServer) -> Vec<Ask> {
        vec![server.put("sys/wrapping/wrap", json!({ "v": self.value })).wrap(&format!("{}s", self.ttl))]
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        if let Said::Done(answer) = heard[0].said() {
            let (text, value) = (answer.wrapped(), self.value.clone());
            model.wraps.push(Wrapped { text, value, ttl: self.ttl, ends: Span::after(round, self.ttl), uses: Uses::of(1) });
        }
    }
}

/// Goes at what a wrapping token holds, all at one moment; or has it wrapped anew.
#[derive(Debug)]
pub(crate) struct Unwrap {
    at: usize,
    times: usize,
    anew: bool,
}

pub(crate) fn unwrap(model: &mut Model, chance: &dyn Entropy) -> Chosen {
    let at = late(chance, model.wraps.len())?;
    let anew = chance.below(4) == 0;
    Some(Box::new(Unwrap { at, times: if anew { 1 } else { pick(chance, &[1, 1, 2, 4]) }, anew }))
}

pub(crate) fn unwrap_all(model: &Model) -> Vec<Box<dyn Deed>> {
    (0..model.wraps.len()).map(|at| Box::new(Unwrap { at, times: 1, anew: false }) as Box<dyn Deed>).collect()
}

impl Deed for Unwrap {
    fn asks(&self, model: &Model, server: &TestServer) -> Vec<Ask> {
        let text = &model.wraps[self.at].text;
        let ask = |number: usize| match (self.anew, number % 2) {
            (true, _) => server.put("sys/wrapping/rewrap", json!({ "token": text })),
            (false, 0) => server.put("sys/wrapping/unwrap", Value::Null).token(text),
            (false, _) => server.put("sys/wrapping/unwrap", json!({ "token": text })),
        };
        (0..self.times).map(ask).collect()
    }

    fn learn(&self, model: &mut Model, heard: &[Heard], round: &Round) {
        let (latest, what) = (model.latest, format!("wrapping token {}", self.at));
        let wrapped = &mut model.wraps[self.at];
        let lives = wrapped.ends.from > round.ended.max(latest);
        wrapped.uses.count(heard, lives, &what);
        let (value, ttl, over) = (wrapped.value.clone(), wrapped.ttl, wrapped.ends.to <= round.started);
        for heard in heard {
            let Said::Done(answer) = heard.said() else { continue };
            assert!(!over, "{what} is over and was accepted");
            if self.anew {
                let ends = Span::after(round, ttl);
                model.wraps.push(Wrapped { text: answer.wrapped(), value: value.clone(), ttl, ends, uses: Uses::of(1) });
            } else {
                assert_eq!(answer.text("/data/v"), value, "{what}");
            }
        }
    }

    fn thing(&self) -> String {
        format!("wrap {}", self.at)
    }
}
