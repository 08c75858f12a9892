//! What a launcher tells the processes that it starts.

/// How this process was started as one of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Launch {
    /// Which of all it is, from 0.
    pub rank: usize,
    /// How many there are, where the launcher says so.
    pub size: Option<usize>,
    /// Which it is of those on its host, from 0, where the launcher says so.
    pub local: Option<usize>,
}

/// Names of rank, size and rank within the host.
type Names = (&'static str, &'static [&'static str], &'static str);

/// Launchers: OpenMPI's `mpirun`; MPICH's and Intel's, and Slurm's PMI; Slurm's PMIx.
const LAUNCHERS: &[Names] = &[
    ("OMPI_COMM_WORLD_RANK", &["OMPI_COMM_WORLD_SIZE"], "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", &["PMI_SIZE"], "MPI_LOCALRANKID"),
    ("PMIX_RANK", &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"], "SLURM_LOCALID"),
];

impl Launch {
    /// As the environment says; none for a process that was started alone.
    pub fn from_env() -> Option<Self> {
        Self::from(|name| std::env::var(name).ok())
    }

    /// The same from any variables.
    pub fn from(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        LAUNCHERS.iter().find_map(|(rank, size, local)| {
            Some(Self {
                rank: number(rank)?,
                size: size.iter().find_map(|name| number(name)),
                local: number(local).or_else(|| number("SLURM_LOCALID")),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Launch> {
        Launch::from(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn every_launcher_is_understood_and_a_task_of_an_array_is_none() {
        let openmpi =
            [("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_LOCAL_RANK", "1")];
        assert_eq!(of(&openmpi), Some(Launch { rank: 3, size: Some(4), local: Some(1) }));
        let mpich = [("PMI_RANK", "0"), ("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "0")];
        assert_eq!(of(&mpich), Some(Launch { rank: 0, size: Some(2), local: Some(0) }));
        let slurm = [("PMIX_RANK", "5"), ("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_NTASKS", "16"), ("SLURM_LOCALID", "1")];
        assert_eq!(of(&slurm), Some(Launch { rank: 5, size: Some(8), local: Some(1) }));
        assert_eq!(of(&[("PMIX_RANK", "1")]), Some(Launch { rank: 1, size: None, local: None }));
        assert_eq!(of(&[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "4"), ("SLURM_ARRAY_TASK_ID", "1")]), None);
        assert_eq!(of(&[]), None);
    }
}
