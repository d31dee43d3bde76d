//! stub
#[derive(Debug, Clone)]
pub struct Prefix;
pub enum Action {
    Stop,
}
pub struct Escape {
    armed: bool,
    on: bool,
}
impl Escape {
    pub fn new(prefix: Option<Prefix>) -> Self {
        Escape { armed: false, on: prefix.is_some() }
    }
    pub fn feed(&mut self, bytes: &[u8], out: &mut std::collections::VecDeque<u8>) -> Vec<Action> {
        let mut actions = Vec::new();
        for b in bytes {
            if self.on && self.armed {
                self.armed = false;
                match b {
                    b'k' => actions.push(Action::Stop),
                    0x1f => out.push_back(0x1f),
                    b => out.extend([0x1f, *b]),
                }
            } else if self.on && *b == 0x1f {
                self.armed = true
            } else {
                out.push_back(*b)
            }
        }
        actions
    }
    pub fn is_holding(&self) -> bool {
        false
    }
    pub fn flush_form(&mut self, _out: &mut std::collections::VecDeque<u8>) {}
    pub fn flush(&mut self, out: &mut std::collections::VecDeque<u8>) {
        if std::mem::take(&mut self.armed) {
            out.push_back(0x1f)
        }
    }
}
pub fn parse(text: &str) -> Result<Option<Prefix>, String> {
    if text == "none" { Ok(None) } else { Ok(Some(Prefix)) }
}
