//! What of endpoints must fit the rest of a configuration.

use super::{Config, Problem, format_bytes};

/// The field of a file that a problem is of, or nothing if its flag says it; and the problem.
pub(super) type FieldProblem = (String, Problem);

impl Config {
    /// Limits of endpoints above those of the gateway.
    pub(super) fn endpoint_limit_problems(&self) -> Vec<FieldProblem> {
        let mut problems = Vec::new();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            for (key, own, global) in [
                ("max_message", endpoint.max_message_bytes, self.max_message_bytes),
                ("outbound_limit", endpoint.outbound_limit_bytes, self.outbound_limit_bytes),
            ] {
                if let Some(own) = own.filter(|own| *own > global) {
                    let text = |bytes: usize| format_bytes(bytes as u64);
                    let what = "more than the gateway's own";
                    let fix = format!("expected at most `limits.{key}`, which is {}", text(global));
                    let problem = Problem::new("", text(own), what, fix);
                    problems.push((format!("endpoint[{index}].{key}"), problem));
                }
            }
        }
        problems
    }

    /// Listeners for an endpoint that is not there. Without any endpoint, the built-in ones are.
    pub(super) fn tcp_endpoint_problems(&self) -> Vec<FieldProblem> {
        if self.endpoints.is_empty() {
            return Vec::new();
        }
        let is_there =
            |path: &str| self.endpoints.iter().any(|e| e.path == path && e.join.is_empty());
        let paths: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.path.as_str()).collect();
        let all = [("--tcp-listen", &self.tcp_listen), ("--tls-tcp-listen", &self.tls_tcp_listen)];
        let all = all.into_iter().flat_map(|(flag, all)| all.iter().map(move |l| (flag, l)));
        let lost = all.filter(|(_, listen)| !is_there(&listen.endpoint));
        lost.map(|(flag, listen)| {
            let what =
                format!("no endpoint without rooms to join has the path {}", listen.endpoint);
            let fix = format!("expected one of {}", paths.join(", "));
            (String::new(), Problem::new(flag, &listen.address, what, fix))
        })
        .collect()
    }
}
